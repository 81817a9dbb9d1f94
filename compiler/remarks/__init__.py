"""What happens to diagnostics before a user sees them: silenced, shortened, left out where they only follow from
others.
"""
