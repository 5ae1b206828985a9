"""What a rule may propose, and helpers that build it."""
