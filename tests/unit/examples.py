"""How many examples property tests take whose every example plans or forecasts a whole day.

Cheap properties of single formulas keep hypothesis's own number, or say theirs where they stand. To search for longer:
DAYBREAK_TEST_EXAMPLES=200 pytest tests/unit
"""

import os

from hypothesis import settings

few_examples = settings(max_examples=int(os.environ.get("DAYBREAK_TEST_EXAMPLES", "12")), deadline=None)
