"""`${VAR}`, `{port}` and `{param.x}`: filled in once, or refused at their place."""

from __future__ import annotations

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ParamRef
from tests.core.config.support import accepted, one, refused, refused_one


def test_placeholders_are_filled_in(tmp_path):
    spec = one(
        tmp_path,
        '{command: ["{python}", "{host}:{port}", "{data_dir}/x", "{name}"], port: 5000}',
        data_dir=tmp_path / "d",
    )
    assert spec.command == ("/opt/python", "127.0.0.1:5000", f"{tmp_path}/d/x", "a")


def test_variables_are_filled_in_with_their_defaults(tmp_path):
    spec = one(
        tmp_path,
        "{command: [x, '${A}', '${B:-two}', '${EMPTY:-three}', '-${EMPTY}-'], port: '${P:-5000}'}",
        {"A": "one", "EMPTY": ""},
    )
    assert spec.command[1:] == ("one", "two", "three", "--")
    assert spec.port == 5000


def test_what_was_filled_in_is_not_expanded_again(tmp_path):
    spec = one(tmp_path, "{command: [x, '${A}']}", {"A": "{port} ${B} {{"})
    assert spec.command[1] == "{port} ${B} {{"


def test_doubled_characters_are_literal(tmp_path):
    spec = one(tmp_path, "{command: [x, '$${A} {{port}} $5 $', '{{\"a\": 1}}']}")
    assert spec.command[1:] == ("${A} {port} $5 $", '{"a": 1}')


def test_a_pattern_is_left_as_it_is(tmp_path):
    spec = one(tmp_path, "{command: [x], params: {p: {default: abc, pattern: '[a-z]{3}$'}}}")
    assert spec.params["p"].pattern == "[a-z]{3}$"


def test_a_variable_that_is_empty_leaves_a_key_as_if_not_written(tmp_path):
    assert one(tmp_path, "{command: [x], port: '${P:-}', cwd: '${P:-}'}").port is None
    assert one(tmp_path, "{command: [x], env: {E: '${P:-}'}}").env["E"] == ""


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("{prt}", "unknown placeholder {prt} (did you mean `port`?)"),
        ("${NOPE}", "the environment has no variable NOPE (set it, or write ${NOPE:-default})"),
        ("${NOPE", "${ is not followed by NAME} or NAME:-default} (write $$ for a $)"),
        ("a{", "a lone { in the text (write {{ and }} for literal braces)"),
        ("a}", "a lone } in the text (write {{ and }} for literal braces)"),
        ("{instance}", "{instance} has no value here (no instances)"),
        ('{"a": 1}', 'unknown placeholder {"a": 1} (write {{ and }} for literal braces)'),
    ],
)
def test_an_unknown_name_is_refused_at_its_place(tmp_path, word, message):
    text = f"services:\n  a:\n    command: [x, '{word}']\n"
    assert refused_one(tmp_path, text) == (3, 18, f"services.a.command[1]: {message}")


def test_a_parameter_fills_a_whole_argument_or_env_value(tmp_path):
    spec = one(
        tmp_path,
        '{command: [x, "{param.m}"], before: [[y, "{param.m}"]], env: {M: "{param.m}"},'
        " params: {m: {default: big}}}",
    )
    assert spec.command == ("x", ParamRef("m"))
    assert spec.before == (("y", ParamRef("m")),)
    assert spec.env["M"] == ParamRef("m")
    assert spec.argv() == ("x", "big")
    assert spec.with_params({"m": "small"}).environment()["M"] == "small"


@pytest.mark.parametrize(
    "keys",
    [
        'command: [x, "--m={param.m}"]',
        'command: ["{param.m}"]',
        'command: [x], cwd: "{param.m}"',
        'command: [x], before: [["{param.m}"]]',
        'command: [x], health: {command: [y, "{param.m}"]}',
        'command: [x], docker: {image: "{param.m}"}, driver: docker',
        'command: [x], env: {A: "a{param.m}"}',
    ],
)
def test_a_parameter_anywhere_else_is_refused(tmp_path, keys):
    found = refused(tmp_path, f"services:\n  a: {{{keys}, params: {{m: {{default: v}}}}}}\n")
    assert any("must be a whole argument" in message for _, _, message in found)


def test_an_unknown_parameter_is_refused_with_a_suggestion(tmp_path):
    text = "services:\n  a: {command: [x, '{param.modle}'], params: {model: {default: v}}}\n"
    line, column, message = refused_one(tmp_path, text)
    assert (line, column) == (2, 20)
    assert message.endswith("unknown parameter {param.modle} (did you mean `model`?)")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("{default: -x}", "a parameter never begins with a hyphen: '-x'"),
        ("{default: ' -x'}", "a parameter never begins with a hyphen: ' -x'"),
        ("{default: -1}", "a parameter never begins with a hyphen: '-1'"),
        ("{default: a, choices: [a, --b]}", "a parameter never begins with a hyphen: '--b'"),
        ("{default: a, choices: [b]}", "expected one of b, got 'a'"),
        ("{default: a, choices: [a, 1]}", "the choice '1' has another type than `default`"),
        ("{default: a, pattern: b}", "'a' does not match the pattern b"),
        ("{default: a, pattern: '['}", "`pattern` is no regular expression"),
        ("{default: a, pattern: a, choices: [a]}", "`choices` and `pattern` are both given"),
        ("{choices: [a]}", "`default` is missing"),
        ("{default: [a]}", "expected text, got a list"),
    ],
)
def test_a_parameter_that_could_not_be_set_is_refused(tmp_path, definition, message):
    text = f"services:\n  a: {{command: [x], params: {{p: {definition}}}}}\n"
    assert message in refused_one(tmp_path, text)[2]


def test_parameters_have_the_type_that_was_typed(tmp_path):
    spec = one(
        tmp_path,
        "{command: [x], params: {s: {default: '1'}, i: {default: 1}, f: {default: 1.5},"
        " b: {default: true}, w: {default: yes}}}",
    )
    assert [spec.params[name].default for name in "sifbw"] == ["1", 1, 1.5, True, "yes"]


def test_words_stay_as_typed(tmp_path):
    spec = one(tmp_path, "{command: [x, 1.10, 010, yes, 1:30, 8000, ~x], env: {V: 1.10, D: true}}")
    assert spec.command[1:] == ("1.10", "010", "yes", "1:30", "8000", "~x")
    assert (spec.env["V"], spec.env["D"]) == ("1.10", "true")


def test_a_service_without_a_port_gets_the_lowest_free_one(tmp_path):
    config = accepted(
        tmp_path,
        "agent: {port_range: 20000-20005}\nservices:\n"
        '  a: {command: [x, "{port}"]}\n  b: {command: [x, "{port}", "{port}"]}\n'
        "  c: {command: [x], port: 20000}\n  d: {command: [x]}\n"
        '  e: {command: [x], health: {http: "http://{host}:{port}/"}}\n',
    )
    assert config.allocated_ports == {"a": 20001, "b": 20002, "e": 20003}
    by_name = {str(key): spec for key, spec in config.services.items()}
    assert by_name["b"].command == ("x", "20002", "20002")
    assert [by_name[name].port for name in "abcde"] == [20001, 20002, 20000, None, 20003]


def test_a_chosen_port_stays_and_a_lost_one_is_replaced(tmp_path):
    text = (
        "agent: {port_range: 20000-20005}\nservices:\n"
        '  new: {command: [x, "{port}"]}\n  a: {command: [x, "{port}"]}\n'
        '  taken: {command: [x, "{port}"]}\n  fixed: {command: [x], port: 20002}\n'
        '  moved: {command: [x, "{port}"]}\n'
    )
    before = {"a": 20000, "taken": 20002, "moved": 30000, "gone": 20001}
    first = accepted(tmp_path, text, allocated=before).allocated_ports
    assert first == {"new": 20001, "a": 20000, "taken": 20003, "moved": 20004}
    assert accepted(tmp_path, text, allocated=first).allocated_ports == first


def test_a_used_up_port_range_is_an_error_at_the_service(tmp_path):
    text = (
        "agent: {port_range: 20000-20000}\nservices:\n"
        '  a: {command: [x, "{port}"]}\n  b: {command: [x, "{port}"]}\n'
    )
    line, column, message = refused_one(tmp_path, text)
    assert (line, column) == (4, 3)
    assert message == "services.b: no port is left in agent.port_range 20000-20000"


def test_instances_have_their_own_port_parameters_and_env(tmp_path):
    config = accepted(
        tmp_path,
        "services:\n  My_Bot:\n"
        '    command: [x, "{instance}", "{name}", "{port}", "{param.style}"]\n'
        "    env: {A: '1', B: '2'}\n    params: {style: {default: calm, choices: [calm, lively]}}\n"
        "    tags: [bot]\n    instances:\n      anna:\n"
        "      Boris_2: {port: 5001, params: {style: lively}, env: {B: '3'}, tags: [fast]}\n",
    )
    anna, boris = config.services.values()
    assert list(config.services) == [ServiceKey("my-bot", "anna"), ServiceKey("my-bot", "boris-2")]
    assert (anna.display_name, boris.display_name) == ("My_Bot@anna", "My_Bot@Boris_2")
    assert anna.argv() == ("x", "anna", "my-bot", "20000", "calm")
    assert boris.argv() == ("x", "boris-2", "my-bot", "5001", "lively")
    assert (boris.env["A"], boris.env["B"], boris.tags) == ("1", "3", ("fast",))
    assert config.allocated_ports == {"my-bot@anna": 20000}


@pytest.mark.parametrize(
    ("instances", "column", "message"),
    [
        ("{x: {params: {p: -y}}}", 33, "a parameter never begins with a hyphen: '-y'"),
        ("{x: {params: {p: 5}}}", 33, "expected text, got '5'"),
        ("{x: {params: {q: y}}}", 30, "unknown parameter `q` (known: p)"),
        ("{x: {params: [p]}}", 29, "expected values by parameter, got a list"),
        ("{x: {template: piper}}", 21, "`template` belongs to the service"),
        ("{x: 5}", 20, "expected a mapping (key: value), got text"),
        ("{x: {}, X: {}}", 24, "`X` and `x` are both `x` in DNS"),
        ("{x: {prt: 5}}", 21, "unknown key `prt` (did you mean `port`?)"),
        ("[x]", 16, "expected instances by name, got a list"),
    ],
)
def test_a_wrong_instance_is_refused_at_its_place(tmp_path, instances, column, message):
    text = (
        "services:\n  a:\n    command: [x]\n    params: {p: {default: v}}\n"
        f"    instances: {instances}\n"
    )
    line, at, said = refused_one(tmp_path, text)
    assert (line, at) == (5, column)
    assert message in said


def test_two_instances_on_one_port_are_refused(tmp_path):
    text = "services:\n  a: {command: [x], port: 5000, instances: {x: {}, y: {}}}\n"
    assert refused_one(tmp_path, text)[2] == (
        "services.a.port: port 5000 on 127.0.0.1 is already that of `a@x`"
    )
