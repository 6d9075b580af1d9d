"""Planning: what is wanted against what is there, as pure functions over frozen data.

- ``steps``    the Plan, its steps (a closed union) and the changes it shows; to JSON and back; in ``words``
- ``wanted``   a collection of the spec and the sources of its rows -> its schema and its mappings; ``inherit``: what
  a new one takes over from the collection that its rows come from
- ``diff``     a schema that is wanted against one that is there -> changes, steps, conflicts
- ``rows``     the rows that are wanted against the journal's and the target's facts -> what is to be copied
- ``destruction``  what a destroy drops
- ``refresh``  what moved on a target, by what the journal knows of it
- ``facts``    what planning is told;  ``choice``  what the user chose;  ``origins``  mappings in plain form
- ``build``    all of it together: the whole plan

Nothing here reads a file, a socket or a clock.
"""
