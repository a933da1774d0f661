"""What people and programs are told about a project.

:mod:`look` takes one look, :mod:`progress` and :mod:`explain` make reports of it as plain data, and
:mod:`text` puts them into lines. Nothing here changes a project or prints.
"""
