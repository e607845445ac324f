"""The machinery that all parts share: settings, clocks, statistics, tables, sessions."""
