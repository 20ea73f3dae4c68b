"""The tasks of MIB's circuit track, from copies of its data sets."""
