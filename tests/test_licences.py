"""What is installed for ssmbook goes with its licence."""

import pytest
from licences import installed, licence, verdict


def test_all_that_is_installed_goes_with_ours():
    found = installed(())
    assert {"torch", "numpy", "numba", "h5py"} <= set(found)
    kinds = {name: verdict(licence(package)) for name, package in found.items()}
    assert not [name for name, kind in kinds.items() if kind in ("binding", "not known")]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("MIT License", "permissive"),
        ("BSD-3-Clause AND MIT", "permissive"),
        ("Apache Software License / GNU General Public License (GPL)", "permissive"),
        ("MPL-2.0 AND MIT", "weak copyleft"),
        ("GNU LESSER GENERAL PUBLIC LICENSE", "weak copyleft"),
        ("GPL-3.0-only", "binding"),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", "permissive"),
        ("AGPL-3.0", "binding"),
        ("", "not known"),
        ("see the file", "not known"),
    ],
)
def test_licences_are_told_apart(text, kind):
    assert verdict(text) == kind
