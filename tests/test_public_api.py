"""The public names, pinned: whoever adds or removes one does so knowingly."""

import perdure


def test_all_public_names_are_listed_in_order_and_exist():
    in_order = sorted(
        set(perdure.__all__), key=lambda name: (not name.isupper(), name[0].islower(), name)
    )
    assert perdure.__all__ == in_order
    for name in perdure.__all__:
        assert hasattr(perdure, name)


def test_nothing_public_is_left_out():
    import types

    found = {
        name
        for name, value in vars(perdure).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert found <= set(perdure.__all__)


def test_errors_are_drawn_in_the_tree_of_their_module():
    errors = [
        value
        for value in vars(perdure.errors).values()
        if isinstance(value, type) and issubclass(value, perdure.PerdureError)
    ]
    for error in errors:
        assert f" {error.__name__}" in perdure.errors.__doc__
