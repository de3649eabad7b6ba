"""What KV says over what config.yml says, and holds over both."""

from __future__ import annotations

from lictor.core.model.desired import DesiredState, Entry, Hold, KvSnapshot, Override, Source
from lictor.core.model.reason import because
from lictor.core.model.spec import ParamSpec
from lictor.core.planning.overrides import Host, InForce, held_as, keep_good, merge, next_expiry
from tests.core.build import WALL, key, spec

RUN, STOP, CARE = DesiredState.RUNNING, DesiredState.STOPPED, DesiredState.MAINTENANCE
BAD = because("kv.bad_json", error="Expecting value", line=1, column=1)


def merged(one, *, node=None, everywhere=None, refused=None, wall=WALL, host=None):
    documents = InForce(node or {}, everywhere or {}, refused or {})
    return merge([one], documents, wall=wall, host=host or Host())[one.key]


def test_without_documents_the_activation_decides():
    assert merged(spec()).state is RUN
    for activation in ("manual", "on-demand"):
        assert merged(spec(activation=activation)).state is STOP
    assert merged(spec()).source is Source.CONFIG


def test_the_document_of_this_node_wins_over_the_one_for_all_nodes():
    found = merged(
        spec(),
        node={key("piper"): Override(state=RUN, by="anna", reason="mine")},
        everywhere={key("piper"): Override(state=STOP, by="bert", reason="all")},
    )
    assert (found.state, found.source) == (RUN, Source.KV_NODE)
    assert (found.by, found.why) == ("anna", "mine")


def test_the_document_for_all_nodes_wins_over_the_config():
    found = merged(spec(), everywhere={key("piper"): Override(state=STOP, by="bert")})
    assert (found.state, found.source, found.by) == (STOP, Source.KV_ALL, "bert")


def test_a_document_for_one_instance_wins_over_the_one_for_the_service_on_its_level_only():
    documents = {key("piper"): Override(state=STOP), key("piper@a"): Override(state=RUN)}
    assert merged(spec("piper@a"), node=documents).state is RUN
    assert merged(spec("piper@b"), node=documents).state is STOP
    everywhere_for_one = {key("piper@a"): Override(state=RUN)}
    node_for_all = {key("piper"): Override(state=STOP)}
    assert merged(spec("piper@a"), node=node_for_all, everywhere=everywhere_for_one).state is STOP


def test_a_document_of_another_service_says_nothing():
    assert merged(spec(), node={key("piper-two"): Override(state=STOP)}).state is RUN


def test_a_document_without_a_state_leaves_the_state_to_the_next_level():
    found = merged(
        spec(params={"voice": ParamSpec("a")}),
        node={key("piper"): Override(params={"voice": "b"}, by="anna")},
        everywhere={key("piper"): Override(state=CARE, by="bert")},
    )
    assert (found.state, found.by) == (CARE, "bert")
    assert found.spec.param("voice") == "b"


def test_parameters_of_several_documents_add_up_and_the_nearest_wins():
    one = spec(params={"a": ParamSpec(0), "b": ParamSpec(0), "c": ParamSpec(0)})
    found = merged(
        one,
        node={key("piper"): Override(params={"a": 1})},
        everywhere={key("piper"): Override(params={"a": 2, "b": 2})},
    )
    assert [found.spec.param(name) for name in "abc"] == [1, 2, 0]


def test_an_expired_document_counts_as_absent():
    document = Override(state=STOP, params={}, restart=WALL, until=WALL)
    assert merged(spec(), node={key("piper"): document}, wall=WALL - 0.1).state is STOP
    found = merged(spec(), node={key("piper"): document})
    assert (found.state, found.source, found.restart_wall) == (RUN, Source.CONFIG, None)


def test_the_newest_restart_order_counts_wherever_it_stands():
    found = merged(
        spec(),
        node={key("piper"): Override(restart=WALL)},
        everywhere={key("piper"): Override(restart=WALL + 5)},
    )
    assert (found.restart_wall, found.state) == (WALL + 5, RUN)


def test_the_next_expiry_is_the_soonest_in_the_future():
    documents = InForce(
        node={key("a"): Override(until=WALL - 1), key("b"): Override(until=WALL + 9)},
        all_nodes={key("a"): Override(until=WALL + 5), key("c"): Override()},
    )
    assert next_expiry(documents, WALL) == WALL + 5
    assert next_expiry(InForce(), WALL) is None


def test_a_service_outside_its_modes_or_without_its_driver_is_blocked():
    cloud = merged(spec(modes=("full", "local")), host=Host(mode="cloud"))
    assert cloud.blocked == because("blocked.mode", mode="cloud", modes="full, local")
    assert merged(spec(modes=("full",))).blocked is None
    assert merged(spec(driver="docker")).blocked == because("blocked.driver", driver="docker")


# --- which documents are in force ------------------------------------------------------------


def snapshot(node=None, everywhere=None):
    return KvSnapshot(node=node or {}, all_nodes=everywhere or {})


def test_a_wrong_document_is_refused_whole_and_the_last_good_one_stays():
    good = Override(state=STOP, params={"voice": "b"})
    before = keep_good(InForce(), snapshot({key("piper"): Entry("{}", good)}))
    after = keep_good(before, snapshot({key("piper"): Entry("{", refused=BAD)}))
    assert after.node == {key("piper"): good}
    assert after.refused == {key("piper"): BAD}
    assert merged(spec(), node=after.node, refused=after.refused).refused == BAD


def test_a_wrong_document_that_never_was_good_changes_nothing():
    after = keep_good(InForce(), snapshot({key("piper"): Entry("{", refused=BAD)}))
    assert after.node == {}
    assert merged(spec(), node=after.node, refused=after.refused).state is RUN


def test_a_deleted_document_is_gone_good_or_not():
    before = InForce({key("piper"): Override(state=STOP)}, {}, {key("piper"): BAD})
    assert keep_good(before, snapshot()) == InForce()


def test_what_was_remembered_by_an_earlier_agent_serves_as_the_last_good_one():
    remembered = Entry("{", override=Override(state=STOP), refused=BAD)
    after = keep_good(InForce(), snapshot({key("piper"): remembered}))
    assert after.node[key("piper")].state is STOP


def test_of_two_wrong_documents_that_of_this_node_is_named():
    far = because("kv.bad_json", error="Extra data", line=2, column=2)
    there = {key("piper"): Entry("{}}", refused=far)}
    after = keep_good(InForce(), snapshot({key("piper"): Entry("{", refused=BAD)}, there))
    assert after.refused == {key("piper"): BAD}


def test_a_document_repaired_is_in_force_and_no_longer_refused():
    before = InForce({key("piper"): Override(state=STOP)}, {}, {key("piper"): BAD})
    after = keep_good(before, snapshot({key("piper"): Entry("{}", Override(state=RUN))}))
    assert (after.node[key("piper")].state, after.refused) == (RUN, {})


def test_levels_do_not_lend_each_other_their_last_good_documents():
    before = InForce(node={key("piper"): Override(state=STOP)})
    after = keep_good(before, snapshot(everywhere={key("piper"): Entry("{", refused=BAD)}))
    assert (after.node, after.all_nodes) == ({}, {})


# --- holds -----------------------------------------------------------------------------------


def held(state=STOP, until=None, by="anna"):
    return Hold(state=state, by=by, reason="driver update", since=WALL - 60, until=until)


def merged_with(holds, one=None, *, wall=WALL, **documents):
    one = one or spec()
    return merge([one], InForce(**documents), wall=wall, host=Host(), holds=holds)[one.key]


LAYERS = {
    "all_nodes": {key("piper"): Override(state=CARE, by="bert", reason="all")},
    "node": {key("piper"): Override(state=RUN, by="cora", reason="node")},
}


def test_a_hold_is_stronger_than_every_document_and_the_config():
    found = merged_with({key("piper"): held()}, **LAYERS)
    assert (found.state, found.source) == (STOP, Source.HOLD)
    assert (found.by, found.why, found.until) == ("anna", "driver update", None)


def test_under_each_layer_that_is_taken_away_the_next_one_counts():
    layers = dict(LAYERS)
    holds = {key("piper"): held(by="anna")}
    seen = [merged_with(holds, **layers)]
    seen.append(merged_with({}, **layers))
    del layers["node"]
    seen.append(merged_with({}, **layers))
    seen.append(merged_with({}))
    assert [one.source for one in seen] == [
        Source.HOLD,
        Source.KV_NODE,
        Source.KV_ALL,
        Source.CONFIG,
    ]
    assert [one.by for one in seen] == ["anna", "cora", "bert", ""]


def test_a_hold_leaves_parameters_and_restart_orders_alone():
    one = spec(params={"voice": ParamSpec("a")})
    document = {key("piper"): Override(params={"voice": "b"}, restart=WALL)}
    found = merged_with({key("piper"): held(RUN)}, one, node=document)
    assert (found.spec.param("voice"), found.restart_wall) == ("b", WALL)


def test_a_hold_that_has_expired_counts_as_absent():
    holds = {key("piper"): held(until=WALL)}
    assert merged_with(holds, wall=WALL - 0.1).state is STOP
    assert merged_with(holds, wall=WALL).source is Source.CONFIG


def test_the_hold_of_an_instance_is_nearer_than_that_of_the_whole_service():
    holds = {key("piper"): held(STOP), key("piper@a"): held(RUN)}
    assert merged_with(holds, spec("piper@a")).state is RUN
    assert merged_with(holds, spec("piper@b")).state is STOP
    assert merged_with(holds, spec("piper-two")).source is Source.CONFIG
    assert held_as(key("piper@a"), holds, WALL) == key("piper@a")
    assert held_as(key("piper@b"), holds, WALL) == key("piper")
    assert held_as(key("piper-two"), holds, WALL) is None
    holds[key("piper@a")] = held(RUN, until=WALL - 1)
    assert merged_with(holds, spec("piper@a")).state is STOP
    assert held_as(key("piper@a"), holds, WALL) == key("piper")


def test_the_end_of_a_hold_wakes_somebody_too():
    documents = InForce(node={key("b"): Override(until=WALL + 9)})
    holds = {key("a"): held(until=WALL + 4), key("c"): held(), key("d"): held(until=WALL - 4)}
    assert next_expiry(documents, WALL, holds) == WALL + 4
    assert next_expiry(documents, WALL + 4, holds) == WALL + 9
