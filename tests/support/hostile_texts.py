"""Texts that try to leave the place where a page shows them: what a model could write about itself."""

import random

_PIECES = (
    "</script>", "<script>owned=1</script>", "<img src=x onerror=owned=1>", "<svg/onload=owned=1>", "</style>",
    "</title>", "</textarea>", "<!--", "-->", "<![CDATA[", "]]>", "<iframe srcdoc='<script>owned=1</script>'>",
    "<base href=//x.test/>", "<meta http-equiv=refresh content=0;url=//x.test>", "<a href=javascript:owned=1>",
    "' onmouseover='owned=1", "\" autofocus onfocus=\"owned=1", "`${owned=1}`", "{{ owned }}", "{% include owned %}",
    "\\u003cscript\\u003e", "&lt;script&gt;", "&#60;b&#62;", "\u2028owned=1\u2029", "\x00", "\x1b]0;owned\x07",
    "\u202e", "\ud800", "\ufeff", "\r\n", "\\", "</SCRIPT ", "<plaintext>", "<math><mi//xlink:href='data:x,owned'>",
    "javascript:owned=1//", "-->]]></script><b>", "$x^2$", "%3Cscript%3E", "=cmd|' /C owned'!A0",
)  # fmt: skip


def hostile_texts(count: int, seed: int = 0) -> list[str]:
    """So many different texts, each of up to four such pieces with letters between them."""
    rng = random.Random(seed)
    texts = dict.fromkeys(_PIECES)
    while len(texts) < count:
        parts = rng.choices(_PIECES, k=rng.randint(1, 4))
        texts[rng.choice(("", " ", "a")).join(parts) + rng.choice(("", "\n", "b", " "))] = None
    return list(texts)[:count]
