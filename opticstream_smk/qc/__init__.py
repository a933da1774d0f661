"""Pictures for people: was it processed well?"""
