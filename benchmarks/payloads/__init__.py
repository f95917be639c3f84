"""Messages whose content is in a payload store."""
