"""The report for people: a page that loads nothing from any network, and Markdown."""
