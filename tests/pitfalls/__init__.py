"""Failures that really happened to libraries of this kind, and the tests that fail without this library's answer.

Each row: its number, what happened elsewhere, and the tests, some of which stand where their subject is tested.
``test_index.py`` checks that they all exist and say so.

==  ====================================================================================================================
1   A cancelled caller shifts everybody's replies, or hides an operation that was applied
    (redis/redis-py#2624, #2665)

    - tests/pitfalls/test_cancellation.py::test_replies_belong_to_their_callers
    - tests/pitfalls/test_cancellation.py::test_what_a_turn_has_taken_is_applied
    - tests/runtime/test_owner.py::test_cancelled_before_the_turn_means_nothing_happened
2   Everything is shielded, so everything deadlocks (redis/redis-py#2666)

    - tests/pitfalls/test_cancellation.py::test_a_writer_who_is_stuck_holds_up_nobody
    - tests/runtime/test_owner.py::test_cancelled_before_the_turn_means_nothing_happened
3   An item is lost, or delivered while its sender sees a cancellation (anyio#146, #536, #728)

    - tests/pitfalls/test_cancellation.py::test_a_cancelled_watcher_loses_nothing
    - tests/pitfalls/test_cancellation.py::test_a_natively_cancelled_watcher_loses_nothing
    - tests/pitfalls/test_cancellation.py::test_a_watcher_cancelled_within_a_commit_loses_nothing
    - tests/pitfalls/test_cancellation.py::test_a_watcher_natively_cancelled_within_a_commit
    - tests/runtime/test_owner.py::test_cancellation_is_noticed_in_a_tight_loop
4   A bridge's future never resolves after the loop stopped (cpython#105836, anyio#575, #1011)

    - tests/pitfalls/test_threads_and_loops.py::test_closing_answers_everyone_who_waits
    - tests/pitfalls/test_threads_and_loops.py::test_a_thread_outlives_the_loop_it_waits_for
    - tests/pitfalls/test_threads_and_loops.py::test_a_thread_outlives_a_loop_that_is_just_closed
5   The process hangs at exit, or threads are refused at shutdown (aiosqlite#290, cpython#113964)

    - tests/pitfalls/test_threads_and_loops.py::test_a_thread_that_may_not_start
    - tests/pitfalls/test_threads_and_loops.py::test_leaving_in_the_middle_of_everything
    - tests/runtime/test_owner.py::test_leaving_without_closing
    - tests/runtime/test_durable.py::test_leaving_without_closing
6   After a fork the child shares the parent's loop, file or lock (redis/redis-py#2910, gunicorn#3529)

    - tests/pitfalls/test_threads_and_loops.py::test_a_fork_in_the_middle_of_a_turn
    - tests/runtime/test_owner.py::test_a_forked_child_is_told
    - tests/runtime/test_durable.py::test_a_forked_child_is_told
    - tests/journal/test_file.py::test_a_forked_child_cannot_touch_it
7   A callback calls back into its own actor and deadlocks (jodal/pykka#9, #76; django/asgiref#348)

    - tests/pitfalls/test_threads_and_loops.py::test_a_callback_may_wait_for_a_thread_that_writes
    - tests/pitfalls/test_threads_and_loops.py::test_an_async_callback_may_wait_for_a_thread_that_waits_for_it
    - tests/runtime/test_owner.py::test_async_callbacks_are_awaited_before_the_call_returns
    - tests/runtime/test_owner.py::test_a_key_that_calls_the_map_gets_an_error
8   A cancel scope or task group is held across a ``yield`` (python-trio/trio#638, #264)

    - tests/pitfalls/test_cancellation.py::test_a_stream_may_be_left_anywhere
    - tests/pitfalls/test_cancellation.py::test_there_are_no_async_generators
9   Slow watchers stall writers or fill the memory (etcd-io/etcd#18109, #16839)

    - tests/pitfalls/test_watchers.py::test_slow_watchers_cost_nothing
10  A watch misses or repeats events around a resume or a compaction (etcd-io/etcd#15271, #17529, #18089)

    - tests/pitfalls/test_watchers.py::test_reconnecting_watchers_while_the_log_is_cut
    - tests/pitfalls/test_watchers.py::test_reconnecting_while_threads_write
    - tests/pitfalls/test_watchers.py::test_a_commit_just_before_the_watcher_sleeps
11  "All of the present was sent" cannot be told from silence (nats-io/nats.py#842, #700)

    - tests/pitfalls/test_watchers.py::test_the_present_is_told_apart_from_silence
    - tests/pitfalls/test_watchers.py::test_what_does_not_match_is_progress_too
12  Overwriting a key keeps or loses its ttl by surprise (nats-io/nats-server#6959)

    - tests/pitfalls/test_time.py::test_an_old_ttl_does_not_take_a_fresh_value
    - tests/pitfalls/test_time.py::test_a_ttl_over_a_lasting_value
13  Writes that change nothing bloat the history (django-commons/django-simple-history#386)

    - tests/runtime/test_hooks_and_conditions.py::test_a_put_of_what_is_there_already
14  The newest state is lost at the edge of retention (etcd-io/etcd#19179, zopefoundation/ZODB#358)

    - tests/pitfalls/test_time.py::test_the_version_in_force_is_never_pruned
    - tests/pitfalls/test_time.py::test_the_present_outlives_its_age
    - tests/pitfalls/test_time.py::test_below_the_edge_nobody_says_missing
    - tests/core/test_timeline.py::test_pruning_never_lies
15  A failed sync is tried again and then lies (PostgreSQL's fsync, 2018)

    - tests/journal/test_faults.py::test_a_map_after_a_failed_sync
    - tests/journal/test_faults.py::test_every_write_and_sync_fails_in_turn
    - tests/runtime/test_durable.py::test_a_journal_that_fails
16  A save that fails half-way destroys the previous file (chronomap 2's ``save_json``)

    - tests/pitfalls/test_files.py::test_a_save_that_is_killed
    - tests/formats/test_replacing.py::test_a_failure_keeps_the_old_file
    - tests/formats/test_replacing.py::test_it_is_synced_before_it_is_renamed
17  Loading a file runs code (chronomap 2's pickle loader and command line)

    - tests/pitfalls/test_files.py::test_nothing_is_evaluated
    - tests/pitfalls/test_files.py::test_what_looks_like_code_stays_text
    - tests/formats/test_pickles.py::test_attacks_are_refused
    - tests/formats/test_pickles.py::test_a_bomb_is_capped
    - tests/formats/test_changes.py::test_a_gzip_bomb_is_capped
    - tests/cli/test_commands.py::test_pickles_run_no_code
    - tests/cli/test_shell.py::test_values_are_json_or_text
18  Contended native ``asyncio`` objects crash under trio (chronomap 2's ``asyncio.Lock``)

    - tests/pitfalls/test_threads_and_loops.py::test_contention_on_every_loop
    - tests/pitfalls/test_threads_and_loops.py::test_only_ports_and_tickets_know_the_loops
19  A long scan blocks the event loop (chronomap 2's snapshot: 178 ms at 50,000 keys)

    - tests/pitfalls/test_threads_and_loops.py::test_a_scan_lets_others_run
    - tests/pitfalls/test_threads_and_loops.py::test_other_slow_calls_let_others_run
    - tests/pitfalls/test_threads_and_loops.py::test_a_scan_sees_one_revision
20  The clock steps back, summer time ends, two stamps fall into one tick (chronomap 2 serves an old value)

    - tests/pitfalls/test_time.py::test_a_clock_that_steps_back
    - tests/pitfalls/test_time.py::test_several_stamps_in_one_tick
    - tests/pitfalls/test_time.py::test_the_hour_that_comes_twice
==  ====================================================================================================================
"""
