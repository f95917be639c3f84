"""The log on its cluster: made, described, checked for rights and durability, removed."""
