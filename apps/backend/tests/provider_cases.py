"""
What each of the stand-in's faults must come to: design section 3's table, written out by hand.

    delivered      a usable code for this order came in a complete answer
    refused        4xx other than 408, 409, 425, 429
    rate limited   429
    unknown        all else, since a request was sent
"""

from app.services.esim_providers import (
    Delivered,
    EsimProvisioningError,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
)

Kind = type[Delivered] | type[EsimProvisioningError]

DELIVERED: dict[str, tuple[str, ...]] = {
    # The connection and the status line
    **dict.fromkeys(("none", "slow_before", "slow_after", "drip_good", "interim_100", "interim_103"), ()),
    **dict.fromkeys(("interim_103_many", "status_line_no_reason"), ()),
    **{f"status_{status}_good": () for status in (201, 202, 203, 205, 206, 226, 299)},
    # Framing that is unusual and right
    **dict.fromkeys(("no_length", "http_1_0", "chunked", "chunked_bytes", "chunked_trailers"), ()),
    **dict.fromkeys(("header_latin1", "header_set_cookie", "two_answers", "idle_408"), ()),
    # The body's bytes: compressed though we didn't ask, or said to be what they aren't
    **dict.fromkeys(("gzip", "gzip_unnamed", "gzip_plain", "gzip_tail", "deflate", "br_plain"), ()),
    **dict.fromkeys(("encoding_unknown", "encoding_identity", "encoding_many"), ()),
    **dict.fromkeys(("utf16", "utf16_named", "utf32", "utf8_bom", "utf7_named"), ()),
    **dict.fromkeys(("charset_unknown", "charset_rot13"), ()),
    **{f"type_{name}": () for name in ("html", "text", "none", "garbage", "vendor", "form", "stream")},
    # What stands beside a good code and isn't needed
    **dict.fromkeys(("utf8_invalid", "surrogate", "nul_character", "control_character"), ()),
    **dict.fromkeys(("nan", "infinity", "number_huge", "number_1e999", "keys_twice"), ()),
    **dict.fromkeys(("extra_fields", "many_fields", "error_and_data", "status_failed", "quantity_zero"), ()),
    # Codes: usable is what begins with LPA:1$ or 1$ and has something after it
    **{f"code_{name}": () for name in ("no_prefix", "lower_prefix", "lower", "confirmation", "oid")},
    **{
        f"code_{name}": ("activation-code-not-sgp22",)
        for name in (
            *("sample", "no_matching_id", "newline", "header_split", "html", "formula", "template", "sql"),
            *("rtl", "zero_width", "nul", "emoji", "long"),
        )
    },
    "code_newline_end": ("activation-code-white-space",),
    "code_space_around": ("activation-code-not-sgp22", "activation-code-white-space"),
    "code_very_long": ("activation-code-not-sgp22", "qr-code-unreadable"),
    # ICCIDs: none is a reason to drop the code
    "iccid_missing": ("iccid-missing",),
    "iccid_null": ("iccid-missing",),
    "iccid_number": ("iccid-reformatted",),
    "iccid_float": ("iccid-not-digits",),
    "iccid_list": ("iccid-unreadable",),
    "iccid_empty": ("iccid-unreadable",),
    "iccid_wrong_luhn": ("iccid-wrong-check-digit",),
    "iccid_with_f": (),
    "iccid_20_digits": (),
    "iccid_18_digits": ("iccid-wrong-check-digit",),
    "iccid_short": ("iccid-wrong-length", "iccid-wrong-check-digit"),
    "iccid_long": ("iccid-wrong-length", "iccid-wrong-prefix"),
    "iccid_letters": ("iccid-not-digits",),
    "iccid_spaced": ("iccid-reformatted",),
    "iccid_swapped": ("iccid-not-digits",),
    "iccid_non_ascii": ("iccid-not-digits",),
    "iccid_newline": ("iccid-reformatted",),
    "iccid_html": ("iccid-not-digits",),
    # References: absent, or ours however it is written. A list is none.
    **{f"reference_{name}": ("order-reference-missing",) for name in ("missing", "null", "empty", "list")},
    **{f"reference_{name}": ("order-reference-reformatted",) for name in ("capitals", "spaced")},
    # The rest of `data`
    "qr_differs": ("qr-code-differs",),
    "qr_missing": (),
    "qr_null": (),
    "qr_number": ("qr-code-unreadable",),
    "qr_picture": ("qr-code-differs",),
    "instructions_missing": (),
    "instructions_number": ("instructions-unreadable",),
    "instructions_html": (),
    "instructions_long": (),
    # Another order's code under our reference: only who knows all profiles can see it
    "same_code": ("qr-code-differs",),
    "same_iccid": (),
    "same_both": (),
}
"""Fault → what is flagged, in any order."""

OF_ANOTHER_ORDER = {"same_code", "same_both"}
"""Delivered, with a code that was issued for another order."""

REFUSED: dict[str, bool] = {
    **{f"status_{status}": True for status in (401, 402, 403)},
    **{f"status_{status}": False for status in (400, 404, 405, 406, 410, 411, 412, 413, 415, 417, 418, 421, 422)},
    **{f"status_{status}": False for status in (423, 424, 426, 428, 431, 451)},
}
"""Fault → whether it concerns our account."""

RATE_LIMITED: dict[str, tuple[int | None, ...]] = {
    "status_429": (None,),
    "status_429_seconds": (60,),
    "status_429_date": (59, 60),
    "status_429_past": (0,),
    "status_429_garbage": (None,),
    "status_429_negative": (None,),
    "status_429_fraction": (None,),
    "status_429_huge": (24 * 3600,),
    "status_429_twice": (60,),
    "status_429_empty": (None,),
}
"""Fault → the seconds to wait, any of these."""


def _both(*names: str) -> set[str]:
    return {f"{name}_{when}" for name in names for when in ("before", "after")}


NEVER_ENDING = {
    *("hang_on_accept", "hang_on_head", *_both("hang", "hold"), "stall_head", "stall_body"),
    *_both("drip_head", "drip_body", "lone_103_hang", "endless_103"),
    *_both("endless_headers", "endless_body", "endless_chunks", "endless_line"),
    "chunked_long_extension",  # aiohttp gives the connection up, but leaves its reader waiting
}
"""Unknown, most of them by the deadline alone."""

TOO_LATE = ("slow_before-60", "slow_after-60", "drip_good-0.5")
"""Unknown, too: good answers, had there been time."""

UNKNOWN: set[str] = {
    *NEVER_ENDING,
    # The connection was lost
    *("close_on_accept", "reset_on_accept", "close_on_head", "reset_on_head", *_both("close", "reset")),
    "reset_mid_body",
    # Statuses that say nothing, or nothing clear
    *_both(*(f"status_{status}" for status in (202, 204, 304, 408, 409, 425))),
    *_both(*(f"status_{status}" for status in (500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599, 600, 999))),
    *_both("status_503_later", *(f"redirect_{status}" for status in (300, 301, 302, 303, 305, 307, 308))),
    *_both("redirect_self", "redirect_nowhere", "redirect_file", "lone_100", "lone_101", "lone_103"),
    # Framing that is broken
    *("half_json", "half_json_sized", *(f"length_{how}" for how in ("too_long", "too_short", "negative", "text"))),
    *("length_plus", "length_huge", "length_zero", "chunked_no_end", "chunked_cut", "chunked_bad_size"),
    *("chunked_negative_size", "chunked_huge_size", "chunked_no_crlf", "chunked_and_length", "transfer_unknown"),
    *("header_1mb", "headers_many", "header_no_colon", "header_nul", "header_space", "header_no_name"),
    *(f"status_line_{how}" for how in ("short", "long", "zero", "text", "negative", "alone", "icy")),
    *_both("garbage", "ssh", "http2", "tls_alert", "blank_lines"),
    "http_0_9",
    # Bodies that are too much, or can't be read
    *("big_plain", "gzip_bomb", *_both("gzip_bomb_big", "gzip_bomb_twice")),
    *("deflate_raw", "gzip_invalid", "gzip_cut", "gzip_wrong_sum", "br", "zstd", "nul_byte"),
    *_both("not_json", "html", "empty", "spaces", "depth_arrays", "depth_objects", "depth_unclosed"),
    *("two_documents", "trailing_comma", "comment", "single_quotes", "xssi_prefix", "json_in_string", "ndjson"),
    # Bodies without the order's data where it belongs
    *_both(*(f"json_{what}" for what in ("array", "null", "true", "number", "string", "empty"))),
    *_both("error_body", "success_false"),
    *(f"data_{how}" for how in ("missing", "null", "empty", "text", "number", "list", "list_two", "list_empty")),
    *(f"data_{how}" for how in ("partial", "nested", "unwrapped", "listed", "snake_case", "capitals", "twice")),
    # No usable code
    *(f"code_{how}" for how in ("missing", "null", "number", "true", "list", "object", "empty", "spaces", "word")),
    *(f"code_{how}" for how in ("prefix_only", "prefix_bare", "version_2", "matching_id_only", "url", "fullwidth")),
    "code_surrogate",
    # Another order's reference
    *(f"reference_{whose}" for whose in ("other", "number", "longer", "theirs")),
    *("same_reference", "same_all"),
}

ABOUT_DATA = {"data_twice"}
"""Of the faults that any supplier may have, those that name a member of ConnectedYou's answer after all."""

DEPENDS_ON_THE_PARSER = {"chunked_twice", "header_folded", "bare_lf", "length_twice", "status_line_version"}
"""
Delivered or unknown: aiohttp's two HTTP parsers, the compiled and the other, take these for broken or not. Neither answer
is wrong: the money rule holds either way.
"""

ARGUMENTS = {
    "slow_before": "0.01",
    "slow_after": "0.01",
    "drip_good": "0",
    "status_429_seconds": "60",
    "status_429_date": "60",
    "status_429_twice": "60",
}
"""Faults that are met with an argument: quick ones, or such as tell."""


def expected(fault: str) -> tuple[Kind, ...]:
    """What the fault may come to."""
    if fault in DEPENDS_ON_THE_PARSER:
        return Delivered, SupplierOutcomeUnknown
    if fault in DELIVERED:
        return (Delivered,)
    if fault in REFUSED:
        return (SupplierRefused,)
    return (SupplierRateLimited,) if fault in RATE_LIMITED else (SupplierOutcomeUnknown,)
