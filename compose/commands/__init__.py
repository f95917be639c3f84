"""The commands of ``crossfade``: a file or a package for each, with the command's name."""
