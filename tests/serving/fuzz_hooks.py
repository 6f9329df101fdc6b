"""For schemathesis (SCHEMATHESIS_HOOKS): what JSON Schema cannot say about this API."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    """An id's limit counts bytes, the schema's counts characters: what lies between is left out."""
    return _ids_fit(case.body) and _ids_fit(case.path_parameters)


def _ids_fit(value):
    if isinstance(value, str):
        return value.isascii() or len(value.encode("utf-8", "replace")) <= 128
    if isinstance(value, dict):
        return all(_ids_fit(k) and _ids_fit(v) for k, v in value.items())
    return all(map(_ids_fit, value)) if isinstance(value, list) else True
