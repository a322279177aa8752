"""Small networks of the kinds that users have, each taken the whole way of `make new`: see cast.py."""
