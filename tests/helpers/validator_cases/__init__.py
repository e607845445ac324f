"""Requests for each rule of `helpers.validators`: a smallest one that passes, and one that does not.

Each table of refused requests has a pattern of the message that names the rule.
"""
