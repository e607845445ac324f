"""The stores of this library inside agent frameworks, one module for each framework.

A program that uses a framework keeps it, and gets the promises of `SessionStore` for its
conversations. Each module is a guide of one page: the setup, an example, and the differences to the
framework's own class. This package imports no framework; each module imports its own, and the extra
of the same name installs it.
"""
