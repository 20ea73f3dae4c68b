"""The explorer's server: a model that answers clicks on localhost."""
