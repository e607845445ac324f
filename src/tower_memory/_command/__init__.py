"""The command ``tower-memory``: a chat that remembers, and the tools for its file."""
