"""The REPL's grammar, queue and variables, with an engine that only pretends."""

import contextlib
import io
import os
import pty
import re
import select
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_inference_config_and_repl import InferenceREPL, LoopInferenceSettings
from loopdraw.files import UserError
from loopdraw.prompt import runner
from loopdraw.prompt.actions import KINDS, MAX_QUEUED, Outcome
from loopdraw.prompt.queue import MAX_TOGETHER
from loopdraw.prompt.terminal import matching_files

LATENT_SIZE, N_FEATURES, N_ITEMS = 3, 5, 7


class FakeEngine:
    """Remembers what it performed; fails, or is interrupted, at the actions it is told."""

    def __init__(self, errors=None, interrupt_at=(), crash_at=()):
        self.batches, self.done, self.prepared = [], [], []
        self.errors = errors or {}
        self.interrupt_at, self.crash_at = set(interrupt_at), set(crash_at)
        self.warnings = []
        self.dataset = True
        self.n_comparisons = 0

    def n_items(self):
        return N_ITEMS

    def prepare(self, actions):
        self.prepared.append(len(actions))
        return self.warnings

    def perform(self, tasks):
        self.batches.append(len(tasks))
        for task in tasks:
            number = len(self.done)
            self.done.append(task)
            if number in self.interrupt_at:
                raise KeyboardInterrupt
            if number in self.crash_at:
                raise RuntimeError("the device\nis on fire")
            if task.value is None or task.value.ndim == 2:
                yield Outcome("shown")
            else:
                sequence = np.outer(np.arange(1, 5), np.resize(task.value, N_FEATURES))
                yield Outcome("done", task.value, sequence, self.errors.get(number))

    def closest_matches(self, sequences):
        self.n_comparisons += 1
        if not self.dataset:
            return None
        return np.stack([np.arange(len(sequences)) % 2, np.ones(len(sequences))], axis=1)


@pytest.fixture
def repl(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_repl(tmp_path, FakeEngine())


def make_repl(folder, engine, lines="", seed=5):
    save_dir = folder / "checkpoint"
    save_dir.mkdir(exist_ok=True)
    config = LoopInferenceSettings(save_dir, LATENT_SIZE, N_FEATURES, True, seed)
    return InferenceREPL(config, engine, io.StringIO(lines), io.StringIO())


def do(repl, *lines):
    """Give lines to a REPL; what it printed."""
    start = len(repl.stdout.getvalue())
    for line in lines:
        assert not repl.onecmd(line)
    return repl.stdout.getvalue()[start:]


def error_of(repl, capsys, line):
    """The one line that a command fails with."""
    capsys.readouterr()
    repl.failed = False
    do(repl, line)
    text = capsys.readouterr().err
    assert repl.failed and text.startswith("error: ") and text.count("\n") == 1, text
    return text[len("error: ") : -1]


def values(engine):
    return [task.value for task in engine.done]


# -------------------------------------------------------------------------------------- submitting


def test_submit_queues_one_action_a_shape(repl):
    assert do(repl, "submit sample 10 --save") == "queued 10 actions, 10 in the queue\n"
    assert do(repl, "submit gt 0") == "queued 1 action, 11 in the queue\n"
    do(repl, "submit interp 3 ? ?", "submit decode ? --intervene --save")
    assert len(repl.queue) == 15
    listing = do(repl, "queue").split("\n")
    assert listing[0].split() == ["1-10", "sample", "--save"]
    assert listing[1].split() == ["11", "gt", "0"]
    assert listing[2].split() == ["12", "interp", "1/3", "?", "?"]
    assert listing[5].split() == ["15", "decode", "?", "--save", "--intervene"]


def test_flags_reach_the_actions_wherever_they_stand(repl):
    do(repl, "submit sample --save 1 --intervene", "submit auto-reco --use_enc_sigma 2 --save")
    do(repl, "submit tf-reco 2", "submit interp 1 --save ? ? ")
    sample, auto, teacher, interp = repl.queue
    assert (sample.save, sample.intervene) == (True, True)
    assert (auto.save, auto.use_enc_sigma, auto.teacher_forced, auto.index) == (
        True,
        True,
        False,
        2,
    )
    assert (teacher.save, teacher.use_enc_sigma, teacher.teacher_forced) == (False, False, True)
    assert interp.save and not interp.intervene


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("submit", "no action ''; it is one of gt, auto-reco"),
        ("submit smaple 3", "did you mean sample?"),
        ("submit sample", "required: <n> (usage: submit sample"),
        ("submit sample x", "'x' is not a whole number"),
        ("submit sample 0", "0 is out of range: from 1 to"),
        ("submit sample -3", "-3 is out of range"),
        (f"submit sample {MAX_QUEUED + 1}", "out of range"),
        ("submit sample 3 4", "unrecognized arguments: 4"),
        ("submit sample 3 --sav", "unrecognized arguments: --sav"),
        ("submit gt 3 --intervene", "unrecognized arguments: --intervene"),
        ("submit gt 7", "no item 7; the dataset has 7, from 0 to 6"),
        ("submit gt -1", "-1 is out of range: at least 0"),
        ("submit interp 3 ?", "required: <z1>"),
        ("submit decode z", "'z' is no value"),
        ("submit decode $", "'$' is no value"),
        ("submit decode |", "names no file"),
        ("submit decode $nothing", "no variable nothing"),
        ("submit decode $last_z", "no variable last_z; `run` sets it"),
        ("submit decode |nothing.txt", "nothing.txt: no such file"),
        ("submit decode ||nothing.txt", "checkpoint/nothing.txt: no such file"),
        ("submit decode |.", "no such file"),
        ("submit decode '|open quote", "no closing quotation"),
        ("submit seq-viz ?", "'?' is no value"),
        ("submit seq-viz $a 3", "give both <start> and <end>"),
        ("submit seq-viz $a 3 3", "start 3 is not before end 3"),
        ("submit seq-viz $a", "has shape (3,); a sequence of this model is (timesteps, 5)"),
        ("submit interp 2 $s ?", "has shape (4, 5); a latent of this model is 3 numbers"),
    ],
)
def test_a_wrong_submit_is_one_line_and_queues_nothing(repl, capsys, line, reason):
    repl.variables["a"], repl.variables["s"] = np.zeros(3), np.zeros((4, 5))
    assert reason in error_of(repl, capsys, line)
    assert not repl.queue


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2", "has shape (2,); a latent of this model is 3 numbers"),
        ("1 2 3 4", "has shape (4,)"),
        ("1 2 3\n4 5 6", "has shape (2, 3)"),
        ("1 nan 3", "not finite"),
        ("1 inf 3", "not finite"),
        ("one two three", "not a text file of numbers"),
        ("1 2\n3", "not a text file of numbers"),
        ("", "holds no numbers"),
        ("# only a comment\n", "holds no numbers"),
    ],
)
def test_a_latent_file_that_is_none_is_refused_when_submitted(repl, capsys, text, reason):
    with open("z.txt", "w") as file:
        file.write(text)
    message = error_of(repl, capsys, "submit decode |z.txt")
    assert message.startswith("z.txt: ") and reason in message


def test_latent_files_are_read_from_both_places_when_submitted(repl, tmp_path):
    np.savetxt(tmp_path / "z.txt", [1.0, 2.0, 3.0])
    np.savetxt(tmp_path / "checkpoint" / "a row.txt", [[4.0, 5.0, 6.0]])
    do(repl, 'submit interp 3 |z.txt "||a row.txt"', r"submit decode ||a\ row.txt")
    (tmp_path / "z.txt").unlink()
    do(repl, "run all")
    expected = [[1, 2, 3], [2.5, 3.5, 4.5], [4, 5, 6], [4, 5, 6]]
    np.testing.assert_allclose(values(repl.engine), expected)


def test_interpolation_of_one_is_its_start(repl):
    repl.variables["a"], repl.variables["b"] = np.zeros(3), np.ones(3)
    do(repl, "submit interp 1 $a $b", "run")
    np.testing.assert_array_equal(values(repl.engine), [[0, 0, 0]])


def test_the_two_ends_of_an_interpolation_are_drawn_once(repl):
    do(repl, "submit interp 5 ? ?", "run", "run 2", "run all")
    drawn = np.array(values(repl.engine))
    assert np.abs(drawn[0] - drawn[-1]).max() > 1e-3
    np.testing.assert_allclose(np.diff(drawn, axis=0), np.tile((drawn[4] - drawn[0]) / 4, (4, 1)))


# ----------------------------------------------------------------------------------------- running


def test_run_takes_one_some_or_all(repl):
    do(repl, "submit sample 6", "run")
    assert (len(repl.engine.done), len(repl.queue)) == (1, 5)
    do(repl, "run 2")
    assert (len(repl.engine.done), len(repl.queue)) == (3, 3)
    assert do(repl, "run 100") == "".join(f"[{k}/3] sample: done\n" for k in (1, 2, 3))
    assert not repl.queue
    assert do(repl, "run", "run all", "run 3") == "the queue is empty\n" * 3
    assert not repl.failed
    assert repl.engine.prepared == [1, 2, 3]


@pytest.mark.parametrize("line", ["run x", "run 0", "run -1", "run 1 2", "run 1.5"])
def test_a_wrong_run_runs_nothing(repl, capsys, line):
    do(repl, "submit sample 2")
    error_of(repl, capsys, line)
    assert len(repl.queue) == 2


def test_what_can_be_is_decoded_together(repl):
    do(repl, f"submit sample {MAX_TOGETHER + 5}", "submit gt 1", "submit auto-reco 2", "run all")
    assert repl.engine.batches == [MAX_TOGETHER, 7]
    repl.engine.batches.clear()
    do(repl, "submit sample 2", "submit sample 2 --intervene", "submit decode ?", "run all")
    assert repl.engine.batches == [2, 1, 1, 1]


SCRIPT = ["submit sample 4", "assign a ?", "submit interp 3 ? $a", "submit auto-reco 1"]


def test_running_together_draws_what_running_one_by_one_draws(tmp_path):
    together, one_by_one = FakeEngine(), FakeEngine()
    do(make_repl(tmp_path, together), *SCRIPT, "run all")
    do(make_repl(tmp_path, one_by_one), *SCRIPT, *["run"] * 8)
    assert together.batches == [8] and one_by_one.batches == [1] * 8
    for a, b in zip(together.done, one_by_one.done, strict=True):
        np.testing.assert_array_equal(a.value, b.value)
        assert a.seed == b.seed and a.action.text == b.action.text


def test_seed_makes_what_follows_repeatable(repl):
    do(repl, "seed 9", "submit sample 2", "run all", "assign a ?")
    do(repl, "seed 9", "submit sample 2", "run all", "assign b ?", "submit sample 1", "run")
    drawn = values(repl.engine)
    np.testing.assert_array_equal(drawn[:2], drawn[2:4])
    np.testing.assert_array_equal(repl.variables["a"], repl.variables["b"])
    assert len({tuple(z) for z in drawn}) == 3
    assert tuple(repl.variables["a"]) not in {tuple(z) for z in drawn}


def test_sessions_differ_without_a_seed(tmp_path):
    first, second = FakeEngine(), FakeEngine()
    do(make_repl(tmp_path, first, seed=None), "submit sample 1", "run")
    do(make_repl(tmp_path, second, seed=None), "submit sample 1", "run")
    assert not np.array_equal(values(first), values(second))


def test_an_action_that_fails_does_not_stop_the_others(tmp_path, capsys):
    engine = FakeEngine(errors={1: UserError("too thin")}, crash_at=[3])
    repl = make_repl(tmp_path, engine)
    printed = do(repl, "submit sample 6", "run all")
    assert printed.count("sample: done") == 4
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "error: sample: too thin"
    # Not a user's mistake: it says where in the program it happened.
    assert re.fullmatch(
        r"error: sample: RuntimeError: the device is on fire \(test_repl.py:\d+\)", errors[1]
    )
    assert repl.failed and not repl.queue
    # The batch goes on behind the crash with the latents that it would have had.
    assert engine.batches == [6, 2]
    calm = FakeEngine()
    do(make_repl(tmp_path, calm), "submit sample 6", "run all")
    np.testing.assert_array_equal(values(engine), values(calm))


def test_ctrl_c_stops_one_action_and_keeps_the_rest(tmp_path, capsys):
    engine, calm = FakeEngine(interrupt_at=[3]), FakeEngine()
    repl = make_repl(tmp_path, engine)
    do(repl, "submit sample 2", "submit interp 4 ? ?", "submit sample 1", "run all")
    assert (
        capsys.readouterr().err == "error: stopped: interp 2/4 ? ? (3 actions left in the queue)\n"
    )
    assert [action.text for action in repl.queue] == ["interp 3/4 ? ?", "interp 4/4 ? ?", "sample"]
    do(repl, "run all")
    do(
        make_repl(tmp_path, calm),
        *["submit sample 2", "submit interp 4 ? ?"],
        "submit sample 1",
        "run all",
    )
    np.testing.assert_array_equal(values(engine), values(calm))


def test_ctrl_c_while_an_outcome_is_reported_does_not_run_it_again(tmp_path, capsys):
    engine = FakeEngine()
    repl = make_repl(tmp_path, engine)
    do(repl, "submit sample 3")
    say = repl.say

    def interrupted(text):
        repl.say = say
        raise KeyboardInterrupt

    repl.say = interrupted
    repl.onecmd("run all")
    assert capsys.readouterr().err == "error: stopped (2 actions left in the queue)\n"
    np.testing.assert_array_equal(repl.variables["last_z"], engine.done[0].value)
    do(repl, "run all")
    assert len({tuple(z) for z in values(engine)}) == 3 and not repl.queue


def test_a_seed_between_an_interruption_and_the_rest_counts(tmp_path):
    """What was drawn ahead for a batch is forgotten with it."""
    engine, calm = FakeEngine(interrupt_at=[0]), FakeEngine()
    do(make_repl(tmp_path, engine), "submit sample 3", "run all", "seed 1", "run all")
    do(make_repl(tmp_path, calm), "seed 1", "submit sample 2", "run all")
    np.testing.assert_array_equal(values(engine)[1:], values(calm))


def test_warnings_of_the_engine_are_no_failure(repl, capsys):
    repl.engine.warnings = ["the file does not load"]
    do(repl, "submit sample 1 --intervene", "run")
    assert capsys.readouterr().err == "warning: the file does not load\n"
    assert not repl.failed


def test_queue_pop_and_clear(repl, capsys):
    do(repl, "submit gt 1", "submit gt 2", "submit gt 3")
    assert do(repl, "queue pop") == "removed gt 1\n"
    assert do(repl, "queue clear") == "removed 2 actions\n"
    assert do(repl, "queue") == "the queue is empty\n"
    assert "nothing to remove" in error_of(repl, capsys, "queue pop")
    assert "queue takes one word" in error_of(repl, capsys, "queue push")


# --------------------------------------------------------------------------------------- variables


def test_runs_set_the_last_latent_and_sequence(repl):
    do(repl, "submit sample 2", "submit gt 1", "run all")
    np.testing.assert_array_equal(repl.variables["last_z"], values(repl.engine)[1])
    assert repl.variables["last_pred_seq"].shape == (4, N_FEATURES)


def test_a_variable_means_its_value_when_submitted(repl):
    do(repl, "submit sample 1", "run", "submit decode $last_z", "submit sample 1", "run all")
    drawn = values(repl.engine)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_queued_action_may_set_the_variable_that_the_next_one_names(repl):
    do(repl, "submit sample 1", "submit decode $last_z", "submit seq-viz $last_pred_seq 1 3")
    do(repl, "submit interp 3 $last_z ?", "run all")
    drawn = values(repl.engine)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[2], np.outer(np.arange(1, 5), np.resize(drawn[1], 5)))
    np.testing.assert_array_equal(drawn[3], drawn[0])
    assert repl.engine.done[2].action.start == 1 and repl.engine.done[2].action.end == 3


def test_an_awaited_variable_that_never_comes_fails_that_action_only(repl, capsys):
    do(repl, "submit gt 1", "submit decode $last_z", "submit gt 2", "run all")
    assert "error: decode $last_z: no variable last_z" in capsys.readouterr().err
    assert [task.action.text for task in repl.engine.done] == ["gt 1", "gt 2"]
    assert not repl.queue


def test_assign_takes_every_kind_of_latent_and_copies_sequences(repl, tmp_path):
    np.savetxt(tmp_path / "z.txt", [1.0, 2.0, 3.0])
    do(repl, "submit sample 1", "run", "assign a ?", "assign b |z.txt", "assign $c $last_z")
    do(repl, "assign s $last_pred_seq", "assign d $a", "submit sample 1", "run")
    assert not repl.failed
    assert repl.variables["a"].shape == (3,)
    np.testing.assert_array_equal(repl.variables["b"], [1, 2, 3])
    np.testing.assert_array_equal(repl.variables["c"], values(repl.engine)[0])
    np.testing.assert_array_equal(repl.variables["d"], repl.variables["a"])
    do(repl, "submit seq-viz $s", "run")
    assert values(repl.engine)[-1].shape == (4, 5)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("assign", "assign takes a name and a latent"),
        ("assign a", "assign takes a name and a latent"),
        ("assign a ? ?", "assign takes a name and a latent"),
        ("assign 1a ?", "'1a' is no name"),
        ("assign a-b ?", "is no name"),
        ("assign last_z ?", "last_z is set by runs"),
        ("assign a $b", "no variable b"),
        ("assign a word", "'word' is no value"),
        ("print", "print takes a name"),
        ("print nothing", "no variable nothing"),
        ("print aa", "did you mean a?"),
        ("print a b c", "print takes a name"),
        ("print a |", "names no file"),
        ("print a .", "cannot be written"),
        ("print closest_data_matches", "no variable closest_data_matches; `run` sets it"),
        ("variables all", "variables takes no words"),
        ("seed", "seed takes one whole number"),
        ("seed x", "'x' is not a whole number"),
        ("seed -1", "out of range"),
        ("quit now", "quit takes no words"),
        ("help nothing", "no help on 'nothing'"),
        ("sumbit sample 3", "no command 'sumbit'; did you mean submit?"),
        ("!ls", "no command '!ls'"),
    ],
)
def test_other_wrong_commands(repl, capsys, line, reason):
    repl.variables["a"] = np.zeros(3)
    assert reason in error_of(repl, capsys, line)


def test_printed_files_read_back_exactly(repl, tmp_path):
    do(repl, "assign a ?", "print a a.txt", "print $a ||folder/a.txt", "assign b ||folder/a.txt")
    assert not repl.failed
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "a.txt"), repl.variables["a"])
    np.testing.assert_array_equal(repl.variables["b"], repl.variables["a"])
    do(repl, "submit sample 1", "run", "print last_pred_seq s.txt", "assign s |s.txt")
    np.testing.assert_array_equal(repl.variables["s"], repl.variables["last_pred_seq"])


def test_samples_are_compared_with_the_dataset_only_when_asked(repl):
    do(repl, "submit sample 5", "submit decode ?", "run all")
    assert repl.engine.n_comparisons == 0
    listing = do(repl, "variables")
    assert repl.engine.n_comparisons == 1
    assert re.search(r"closest_data_matches +5 x 2 ", listing)
    np.testing.assert_allclose(repl.variables["diversity_stats"], [5, 2, 0.4])
    do(repl, "submit decode ?", "run")  # no sample among these
    assert len(repl.variables["closest_data_matches"]) == 5
    do(repl, "submit sample 3", "run 2", "run 1")
    assert len(repl.variables["closest_data_matches"]) == 1
    assert repl.engine.n_comparisons == 2


def test_of_many_samples_the_last_ones_are_compared(repl, monkeypatch):
    """So a run of a hundred thousand does not keep them all in memory."""
    monkeypatch.setattr(runner, "MOST_COMPARED", 3)
    do(repl, "submit sample 5", "run all")
    matches = repl.variables["closest_data_matches"]
    assert len(matches) == 3


def test_the_time_left_is_not_told_from_the_first_action(repl, monkeypatch):
    """With the first one, programs start; it takes far longer than the others."""
    times = iter([0.0] + [100.0 + i for i in range(1000)])
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(times))
    said = do(repl, "submit sample 40", "run all")
    rates = [float(rate) for rate in re.findall(r"done, ([0-9.]+) a second", said)]
    assert rates and min(rates) > 0.1


def test_without_a_dataset_there_are_no_matches(repl, capsys):
    repl.engine.dataset = False
    do(repl, "submit sample 2", "run all")
    assert [line.split()[0] for line in do(repl, "variables").splitlines()] == [
        "last_pred_seq",
        "last_z",
    ]
    assert "given a dataset" in error_of(repl, capsys, "print diversity_stats")


# ------------------------------------------------------------------------------------ help, session


def test_help_covers_every_command_action_and_flag(repl):
    overview = do(repl, "help")
    for verb in repl.verbs():
        assert f"\n{verb}" in f"\n{overview}", verb
        assert do(repl, f"help {verb}").strip()
    everything = do(repl, "help submit")
    for kind in KINDS:
        assert f"submit {kind} " in everything
        page = do(repl, f"help submit {kind}")
        assert "example: submit" in page and "--save" in page
    for form in ("?", "$name", "|file", "||file"):
        assert form in everything and form in do(repl, "help latents")
    assert "closest_data_matches" in do(repl, "help variables")
    assert not repl.failed


def test_every_example_in_the_help_is_a_command_that_works(repl):
    np.savetxt("z.txt", np.ones(3))
    np.savetxt("b.txt", np.ones(3))
    (repl.settings.save_dir / "inference").mkdir()
    np.savetxt(repl.settings.save_dir / "inference/inference-0-latent.txt", np.ones(3))
    do(repl, "submit sample 1", "run", "assign a ?")
    for line in re.findall(r"example: (.*)", do(repl, "help submit")):
        do(repl, line)
    for line in re.findall(r"(?m)^assign \w .*?(?=   |$)", do(repl, "help assign")):
        do(repl, line)
    do(repl, "run all")
    assert not repl.failed
    assert {"a", "b", "c", "d", "s"} <= set(repl.variables.names())


def test_a_script_is_echoed_and_its_status_is_1_if_anything_failed(tmp_path, capsys):
    repl = make_repl(tmp_path, FakeEngine(), "submit sample 1\n\nrun all\r\nquit\nsubmit gt 99\n")
    assert repl.session("hello") == 0
    assert repl.stdout.getvalue() == (
        "hello\n"
        "inference> submit sample 1\nqueued 1 action, 1 in the queue\n"
        "inference> \n"
        "inference> run all\nsample: done\n"
        "inference> quit\n"
    )
    repl = make_repl(tmp_path, FakeEngine(), "submit sample 0\nsubmit sample 1\nrun all")
    assert repl.session() == 1
    assert repl.stdout.getvalue().endswith("inference> run all\nsample: done\ninference> \n")


WORDS = st.one_of(
    st.sampled_from(
        [*KINDS, "submit", "run", "queue", "assign", "print", "variables", "seed", "help", "all"]
        + ["pop", "clear", "?", "$a", "$s", "$last_z", "$last_pred_seq", "$", "|z.txt", "||z", "|"]
        + ["|||", "--save", "--intervene", "--use_enc_sigma", "--", "-h", "-1", "0", "1", "2", "3"]
        + ["1e5", '"', "'", "\\", "a", "s", "-", "9" * 5000, "\0", "latents", "diversity_stats"]
    ),
    # No slashes: `print` must not write outside the test's folder.
    st.text(st.characters(exclude_characters="/"), max_size=8),
)


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(st.lists(WORDS, max_size=6).map(" ".join), min_size=1, max_size=6))
def test_no_line_raises_or_ends_the_session(tmp_path_factory, lines):
    folder = tmp_path_factory.getbasetemp() / "grammar"
    folder.mkdir(exist_ok=True)
    repl = make_repl(folder, FakeEngine(interrupt_at=[2], crash_at=[4]))
    repl.variables["a"], repl.variables["s"] = np.zeros(3), np.zeros((4, 5))
    with contextlib.chdir(folder):
        for line in lines:
            ended = repl.onecmd(line)
            assert not ended or line.split()[0] in ("quit", "EOF")


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 20),
    runs=st.lists(st.integers(1, 6), max_size=8),
    interruptions=st.sets(st.integers(0, 20), max_size=3),
)
def test_however_the_queue_is_run_the_latents_are_the_same(
    tmp_path_factory, n, runs, interruptions
):
    folder = tmp_path_factory.getbasetemp()
    engine, calm = FakeEngine(interrupt_at=interruptions), FakeEngine()
    for candidate, commands in (
        (engine, [*(f"run {k}" for k in runs), *["run all"] * 4]),
        (calm, ["run all"]),
    ):
        do(make_repl(folder, candidate), f"submit sample {n}", "submit interp 4 ? ?", *commands)
    np.testing.assert_array_equal(values(engine), values(calm))


# -------------------------------------------------------------------------------------- completion


def test_completion(repl, tmp_path):
    repl.variables["apple"], repl.variables["anise"] = np.zeros(3), np.zeros(3)
    (tmp_path / "my file.txt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "z.txt").touch()
    (repl.settings.save_dir / "kept.txt").touch()

    def complete(line):
        begin = max(line.rfind(" ") + 1, 0)
        verb = line.split()[0] if begin else None
        method = getattr(repl, f"complete_{verb}", repl.completedefault)
        if verb is None:
            method = repl.completenames
        return method(line[begin:], line, begin, len(line))

    assert complete("s") == ["seed ", "submit "]
    assert "EOF " not in complete("")
    assert complete("submit s") == ["sample ", "seq-viz "]
    assert complete("submit sample 3 --i") == ["--intervene "]
    assert complete("submit gt 3 --") == ["--save ", "--format "]
    assert complete("submit decode $a") == ["$anise ", "$apple "]
    assert complete("assign x $ap") == ["$apple "]
    assert complete("submit decode |fo") == ["|folder/"]
    assert complete("submit decode |folder/") == ["|folder/z.txt "]
    assert complete("submit decode |my") == [r"|my\ file.txt "]
    assert complete(r"submit decode |my\ fi") == ["file.txt "]
    assert complete("submit decode ||k") == ["||kept.txt "]
    assert complete("print a") == ["anise ", "apple "]
    assert complete("print apple fo") == ["folder/"]
    assert complete("encode a fo") == ["folder/"]
    assert complete("run ") == ["all "]
    assert complete("queue ") == ["pop ", "clear "]
    assert complete("help submit in") == ["interp "]
    assert complete("help la") == ["latents "]
    assert matching_files("print a nowhere/x", 8, 17, lambda bars: tmp_path) == []


# ------------------------------------------------------------------------------- in a real terminal

TERMINAL_SESSION = """
import sys
sys.path[:0] = [{root!r}, {root!r} + '/tests', {tests!r}]
import time
from pathlib import Path
from test_repl import FakeEngine, LoopInferenceSettings, InferenceREPL
class Slow(FakeEngine):
    def perform(self, tasks):
        for outcome in super().perform(tasks):
            print("WORKING", flush=True)
            time.sleep(0.01 if len(self.done) < 2 else 30)
            yield outcome
status = InferenceREPL(LoopInferenceSettings(Path({save_dir!r}), 3, 5, True), Slow()).session("hi")
print("STATUS", status)
"""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, arguments, **environment):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", **environment},
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self.seen = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, text, timeout=30):
        """What was printed up to and including `text`, since the last call."""
        end = time.monotonic() + timeout
        while text not in self.seen:
            ready = select.select([self.master], [], [], max(0, end - time.monotonic()))[0]
            assert ready, f"{text!r} did not come; seen: {self.seen!r}"
            self.seen += os.read(self.master, 4096).decode()
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def interrupt_line(self, prompt):
        """Press Ctrl-C at the prompt, as often as it takes to get a new one.

        An interrupt that arrives while CPython's readline module handles another key is not noticed
        before the next key or interrupt; a person who sees nothing happen presses again.
        """
        for _ in range(10):
            self.type("\x03")
            try:
                return self.wait_for(prompt, timeout=3)
            except AssertionError:
                continue
        return self.wait_for(prompt, timeout=0)


def _take_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(tmp_path):
    program = TERMINAL_SESSION.format(
        root=str(ROOT), tests=str(ROOT / "tests/prompt"), save_dir=str(tmp_path)
    )
    opened = []

    def open_one(**environment):
        home = {"HOME": str(tmp_path), "XDG_STATE_HOME": ""}
        opened.append(Terminal([sys.executable, "-c", program], **{**home, **environment}))
        return opened[-1]

    yield open_one
    for one in opened:
        one.process.kill()
        one.process.wait()
        os.close(one.master)


def test_a_terminal_session(terminal, tmp_path):
    first = terminal()
    assert "\033[1;36m" in first.wait_for("inference>")  # a coloured prompt
    first.type("sub\tsamp\t3\r")
    first.wait_for("queued 3 actions")
    first.type("run all\r")
    first.wait_for("sample: done")
    first.wait_for("WORKING")
    first.type("\x03")
    assert "\033[31merror\033[0m" in first.wait_for("stopped: sample (1 action left in the queue)")
    first.wait_for("inference>")
    first.type("submit dec")
    first.wait_for("submit dec")
    first.interrupt_line("inference>")  # drops the line, not the session
    first.type("queue\r")
    first.wait_for("1  sample")
    first.type("assign berry ?\rpri\tbe\t\r")
    first.wait_for("[")
    first.type("\x04")
    first.wait_for("STATUS 0")  # typed sessions end well, whatever failed
    history = tmp_path / ".local/state/loopdraw/inference_history"
    assert [line.strip() for line in history.read_text().splitlines()] == [
        "submit sample 3",
        "run all",
        "queue",
        "assign berry ?",
        "print berry",
    ]
    second = terminal(NO_COLOR="1")
    assert "\033[1;36m" not in second.wait_for("inference> ")
    second.type("\x1b[A\x1b[A\x1b[A\r")  # arrow up, thrice: "queue"
    second.wait_for("the queue is empty")


class EagerEngine(FakeEngine):
    """Saves everything as soon as it is begun; Ctrl-C comes when one outcome is asked for."""

    def __init__(self, interrupt_at):
        super().__init__()
        self.number, self.stop_at, self.begun = 0, interrupt_at, []

    def perform(self, tasks):
        self.begun.append(len(tasks))
        return EagerOutcomes(self, tasks)


class EagerOutcomes:
    def __init__(self, engine, tasks):
        self.engine, self.tasks, self.closed = engine, list(tasks), False

    def __iter__(self):
        return self

    def __next__(self):
        engine = self.engine
        if engine.number == engine.stop_at and not self.closed:
            raise KeyboardInterrupt
        if not self.tasks or (self.closed and engine.number >= engine.stop_at + 3):
            raise StopIteration
        engine.number += 1
        task = self.tasks.pop(0)
        engine.done.append(task)
        return Outcome("saved", task.value, np.ones((4, N_FEATURES)))

    def close(self):
        self.closed = True


def test_ctrl_c_counts_what_was_saved_in_the_meantime(tmp_path, capsys):
    engine, calm = EagerEngine(interrupt_at=70), FakeEngine()
    repl = make_repl(tmp_path, engine)
    do(repl, "submit sample 200")
    repl.onecmd("run all")
    assert engine.begun == [MAX_TOGETHER] * 3  # one is begun while that before it goes on
    # 70 were reported, 3 more saved; nothing was lost, so no action is off the queue without one.
    assert capsys.readouterr().err == "error: stopped (127 actions left in the queue)\n"
    engine.stop_at = None
    do(repl, "run all")
    do(make_repl(tmp_path, calm), "submit sample 200", "run all")
    np.testing.assert_array_equal(values(engine), values(calm))
