"""Pictures by which people judge whether data was processed well."""
