"""What each figure is measured against: the ordinary way to do the same thing."""
