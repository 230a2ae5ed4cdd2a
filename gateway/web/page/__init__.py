"""The page: what managers, agents and auditors see, by NiceGUI on the API's application.

Nothing is decided here: every reading and every change goes through the functions that the API's routes are made of,
with the same roles and rules.
"""
