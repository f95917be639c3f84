"""``crossfade db``: the schema, and rows that PostgreSQL lost."""
