"""Writing files: all of them go through `transaction.Transaction`, which calls the system only through `steps`."""
