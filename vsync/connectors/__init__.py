"""The systems that rows come from and go to: ``base`` is their contract, ``registry`` names them, one place each."""
