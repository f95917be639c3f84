"""The report for people: a self-contained HTML page, and Markdown."""
