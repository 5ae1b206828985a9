"""TOML files checked against a JSON schema, with errors that name the line."""
