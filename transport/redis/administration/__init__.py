"""The log on its server: made, described, checked for rights and durability, removed."""
