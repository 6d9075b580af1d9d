"""Planning: what is wanted against what is there, as pure functions over frozen data.

- ``steps``    the Plan, its steps (a closed union) and the changes it shows; to JSON and back; in ``words``
- ``wanted``   a collection of the spec and the sources of its rows -> its schema and its mappings, of what is
  ``declared``, ``inferred`` from the sources or, in a new one, ``inherit``-ed from the collection that its rows come
  from; ``dynamic``: what a map says of dynamic fields; ``rekeying``: what the policy of collisions makes of keys
- ``diff``     a schema that is wanted against one that is there -> changes, steps, conflicts
- ``rows``     the rows that are wanted against the journal's and the target's facts -> what is to be copied;
  ``known``: what the journal knows of sources; ``copies``: the line that shows a copy; ``mirror``: what a comparison
  found, as changes
- ``ledger``   what does not stay as it is, and whether the spec accepts what is lost
- ``destruction``  what a destroy drops
- ``refresh``  what moved on a target, by what the journal knows of it
- ``mend``     what is to be mended at a destination;  ``repair``  what a check found, as a plan
- ``facts``    what planning is told;  ``choice``  what the user chose;  ``origins``  mappings in plain form
- ``build``    all of it together: the whole plan;  ``approval``  a saved one beside the world as it is now

Nothing here reads a file, a socket or a clock.
"""
