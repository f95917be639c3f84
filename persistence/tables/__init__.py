"""The tables. Migrations are written from these models, and a test compares the two."""
