"""Who holds a card, as words: the format `{holders:holders}` of a sentence.

The value is data of `core.planning.placement.holders` (`who bytes word seconds; …`), so that a reason
stays one code with parameters and is said in the reader's language. The dashboard does the same in
`i18n.js`. What is not of that form is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "idle": "idle {since}",
        "busy": "busy",
        "pinned": "pinned",
        "needed": "needed by another",
        "recent": "only just started",
        "loading": "loading",
        "ending": "being stopped",
        "promised": "about to start",
        "ended": "ended, its memory has not come back",
        "orphan": "left over, being ended",
        "row": "{who} holds {size} ({word})",
        "stranger": "{who} (not ours) holds {size}",
        "pid": "pid {pid}",
        "?": "somebody",
        "unnamed": "the driver does not say who",
        "unknown": "an unknown amount",
        "nobody": "nobody is on it",
        "between": ", ",
    },
    "ru": {
        "idle": "простаивает {since}",
        "busy": "занят",
        "pinned": "закреплён",
        "needed": "нужен другому",
        "recent": "только что запущен",
        "loading": "загружается",
        "ending": "останавливается",
        "promised": "скоро запустится",
        "ended": "завершён, но память не вернулась",
        "orphan": "остался без сервиса, завершается",
        "row": "{who} держит {size} ({word})",
        "stranger": "{who} (не наш) держит {size}",
        "pid": "pid {pid}",
        "?": "кто-то",
        "unnamed": "драйвер не говорит кто",
        "unknown": "неизвестно сколько",
        "nobody": "на ней никого нет",
        "between": ", ",
    },
    "zh": {
        "idle": "空闲 {since}",
        "busy": "使用中",
        "pinned": "已固定",
        "needed": "被其他服务需要",
        "recent": "刚刚启动",
        "loading": "加载中",
        "ending": "正在停止",
        "promised": "即将启动",
        "ended": "已结束，但显存尚未归还",
        "orphan": "残留进程，正在结束",
        "row": "{who} 占用 {size}（{word}）",
        "stranger": "{who}（非本程序管理）占用 {size}",
        "pid": "pid {pid}",
        "?": "某个程序",
        "unnamed": "驱动未说明是谁",
        "unknown": "未知大小",
        "nobody": "没有占用者",
        "between": "，",
    },
}


def holders(
    value: object,
    language: str,
    *,
    size: Callable[[float], str],
    duration: Callable[[float, str], str],
) -> str:
    """The rows as one piece of a sentence. `size` and `duration` say bytes and seconds."""
    words = _WORDS[language]
    said = []
    for row in str(value).split("; ") if value else ():
        try:
            who, count, word, seconds = row.split(" ")
            amount = size(int(count)) if int(count) else words["unknown"]
            since = duration(float(seconds), language)
        except ValueError:
            return str(value)
        name = words["pid"].format(pid=who[4:]) if who.startswith("pid:") else words.get(who, who)
        template = words["stranger"] if word == "stranger" else words["row"]
        held = words.get(word, word).format(since=since) if word != "stranger" else ""
        said.append(template.format(who=name, size=amount, word=held))
    return words["between"].join(said) or words["nobody"]
