//! The main scenes once more, over several shards with the routing between them in front: whoever
//! lands in the wrong shard is refused there, and the scene fails.

use rouse::proto::Destination;
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;

use crate::world::{
    APNS, World, crlf, invite, invite_to, ok_to_register, pbx, register, response, settings, tcp,
    udp, via, with_shards,
};
use crate::{
    advisories, calls, dialogs, early, guard, hold, keep, missed, oversize, pains, peers,
    providers, races, reflection, registration, resume, rounds, sips, smuggling, surge, verdicts,
    wake,
};

/// Numbers of shards that put the scenes' agents into different ones.
const SHARDS: [u16; 3] = [2, 4, 7];

fn play(scenes: &[fn()]) {
    for shards in SHARDS {
        for scene in scenes {
            with_shards(shards, scene);
        }
    }
}

#[test]
fn calls_that_wait_are_taken_up_by_their_shards() {
    play(&[
        resume::a_call_that_waits_goes_on_in_the_next_process,
        resume::a_caller_that_hangs_up_after_the_restart_is_answered,
        resume::a_call_whose_time_is_over_gets_its_answer_and_wakes_nobody,
        resume::a_call_that_rings_is_not_begun_again,
    ]);
}

#[test]
fn a_surge_is_turned_away_by_each_shard() {
    play(&[
        surge::a_call_that_is_refused_for_the_load_hears_when_to_come_back_and_leaves_nothing,
        surge::a_call_that_was_begun_is_not_refused_by_a_copy_of_its_invite_that_came_late,
        surge::what_was_begun_goes_before_calls_and_calls_before_strangers,
        surge::a_phone_that_was_woken_registers_before_new_calls,
    ]);
}

#[test]
fn registrations_are_refreshed_in_their_shards() {
    play(&[
        keep::a_phone_that_slept_for_days_still_rings,
        keep::a_call_id_stays_and_its_number_rises_across_a_restart,
        keep::a_path_and_a_devices_own_contact_are_repeated_as_the_upstream_knows_them,
        keep::wrong_credentials_are_tried_once_and_then_it_is_pushes,
        keep::other_credentials_are_tried_after_a_reload,
        keep::a_stale_nonce_is_no_wrong_password,
        keep::a_realm_or_a_hash_without_credentials_is_told_and_not_answered,
        keep::a_registrar_that_wants_it_longer_gets_it_longer,
        keep::a_registrar_that_is_away_is_asked_again_and_the_phone_too,
        keep::a_phone_that_is_awake_refreshes_itself,
        keep::what_the_phone_says_while_a_refresh_is_under_way_counts,
        keep::a_phone_that_left_while_a_refresh_was_under_way_is_unknown_upstream_too,
        keep::devices_that_share_a_contact_share_the_refresh,
        keep::a_month_of_silence_ends_it,
        keep::a_dead_token_ends_it,
        keep::those_that_registered_together_are_refreshed_apart_and_few_at_once,
    ]);
}

#[test]
fn calls_land_in_their_shards() {
    play(&[
        advisories::what_broke_others_breaks_nothing_here,
        calls::a_call_to_an_awake_phone_goes_both_ways_through_the_dialog,
        calls::a_bye_follows_the_phone_to_its_new_connection_and_waits_for_it,
        calls::a_bye_with_our_routes_repeated_goes_straight_to_the_phone,
        calls::a_dialog_outlives_a_restart,
        calls::a_call_from_a_phone_goes_to_its_upstream_without_its_token,
        calls::a_foreign_route_of_a_phone_is_neither_followed_nor_passed_on,
        calls::a_call_that_goes_round_is_refused_at_its_sixth_pass,
        calls::a_stranger_is_told_the_same_of_an_agent_that_exists_and_of_one_that_does_not,
        calls::a_wrong_password_and_an_unknown_account_look_the_same,
        calls::a_fork_cancels_the_others_when_one_answers,
        calls::one_phone_busy_and_one_that_never_wakes_is_busy,
        calls::a_cancel_goes_to_the_ringing_phone_with_the_callers_reason,
        calls::who_is_not_registered_may_only_register,
        calls::a_forged_route_is_refused,
        calls::what_section_16_3_refuses_is_refused,
        calls::a_request_that_comes_back_unchanged_is_a_loop,
        calls::timer_c_ends_a_phone_that_rings_for_ever,
        calls::a_second_2xx_of_a_fork_goes_up_too,
        calls::notifies_that_reuse_a_branch_are_each_forwarded,
        calls::a_datagram_without_content_length_gets_one_on_its_way_to_a_stream,
        calls::anybody_may_ping_the_gateway_and_that_leaves_nothing_behind,
        calls::a_phone_that_moved_may_repeat_and_cancel_its_call_from_where_it_was,
    ]);
}

#[test]
fn strangers_are_met_alike_in_all_shards() {
    play(&[
        guard::a_strangers_rate_is_that_of_the_whole_gateway,
        guard::an_upstreams_address_proves_nothing_over_udp_where_that_is_not_trusted,
        guard::an_office_of_500_phones_behind_one_address_registers_at_once,
        guard::a_scanner_gets_no_answer_and_its_connection_is_closed,
        guard::a_flood_in_anothers_name_bans_nobody_and_keeps_no_known_phone_out,
        guard::passwords_are_not_guessed_and_the_owner_is_not_locked_out,
        guard::a_nonce_that_was_too_old_is_no_failure,
        guard::unknown_devices_reach_the_upstream_at_its_pace_and_known_ones_at_once,
        guard::an_agent_that_begins_too_much_is_refused_and_may_go_on_with_what_it_has,
        guard::networks_of_ones_own_are_exempt_and_strangers_may_go_unanswered,
        reflection::an_ordinary_phones_first_register_gets_its_challenge_over_udp,
        smuggling::what_asterisk_reads_is_what_rouse_has_read,
        smuggling::nothing_of_a_strangers_reaches_asterisk_however_it_is_spelt,
        smuggling::both_directions_of_a_call_read_the_same_to_both,
    ]);
}

#[test]
fn what_overtakes_a_register_finds_its_shard() {
    play(&[
        early::a_notify_ahead_of_the_2xx_reaches_the_phone,
        early::a_call_ahead_of_the_2xx_reaches_the_phone_once,
        early::a_call_ahead_of_the_2xx_does_not_ring_where_nobody_is_any_more,
        early::a_call_for_an_agent_who_is_refused_is_refused_with_him,
        early::a_call_waits_no_longer_than_answers_overtake_each_other,
        early::a_call_ahead_of_the_2xx_may_be_cancelled,
        early::so_many_wait_and_no_more,
    ]);
}

#[test]
fn dialogs_land_in_their_shards() {
    play(&[
        dialogs::two_contacts_in_one_register_do_not_share_a_purr,
        dialogs::every_2xx_brings_a_new_purr_for_a_phone_that_is_pushed,
        dialogs::a_purr_reaches_the_peer_and_nothing_else_about_pushes_does,
        dialogs::a_request_in_a_dialog_with_a_purr_wakes_the_phone_and_waits_for_it,
        dialogs::a_phone_in_a_dialog_with_a_purr_that_is_awake_is_not_pushed,
        dialogs::a_phone_that_does_not_come_in_time_costs_that_transaction_alone,
        dialogs::a_push_that_fails_for_good_ends_the_wait_of_a_request_in_a_dialog,
        dialogs::a_purr_that_is_forged_or_another_devices_pushes_nobody,
        dialogs::a_request_in_a_dialog_never_makes_a_voip_push,
        dialogs::a_call_is_pushed_though_a_request_in_a_dialog_woke_the_phone_already,
        dialogs::a_calls_push_that_fails_neither_ends_nor_is_repeated_for_a_bye_that_waits,
        dialogs::requests_that_wait_in_dialogs_are_no_held_calls,
        dialogs::a_re_invite_that_waits_for_a_sleeping_phone_may_be_cancelled,
        dialogs::a_phones_408_to_another_request_than_invite_does_not_pass,
        dialogs::an_invite_that_replaces_a_dialog_reaches_the_device_by_its_purr_and_passes_untouched,
        dialogs::an_invite_by_a_purr_finds_its_device_whatever_its_user,
        dialogs::refer_and_replaces_pass_both_ways_untouched,
        dialogs::bye_and_re_invite_follow_a_phone_that_moved_to_another_address_or_transport_in_the_call,
        dialogs::a_request_in_a_dialog_whose_connection_dies_under_it_goes_out_where_the_phone_comes_back,
        dialogs::a_bye_waits_for_a_phone_whose_registration_went_with_its_connection,
        dialogs::an_ack_for_a_sleeping_phone_is_never_held,
        dialogs::of_a_subscriptions_notifies_the_newest_is_delivered_and_another_subscriptions_too,
        dialogs::a_reliable_183_and_its_prack_pass_untouched,
        dialogs::a_second_call_to_a_phone_that_is_in_a_call_goes_to_it_at_once,
    ]);
}

#[test]
fn missed_land_in_their_shards() {
    play(&[
        missed::a_phone_that_a_call_did_not_reach_is_told_that_it_was_missed_and_never_by_a_voip_push,
        missed::without_missed_call_push_a_sleeping_android_phone_is_told_that_the_call_is_over,
        missed::a_call_that_was_answered_elsewhere_is_not_missed,
        missed::a_phone_that_rang_or_declined_knows_of_the_call_itself,
        missed::what_one_phone_says_decides_whether_the_other_is_told,
        missed::a_decline_ends_the_other_phones_unless_it_speaks_for_one_alone,
        missed::a_decline_that_speaks_for_one_alone_competes_as_a_4xx,
    ]);
}

#[test]
fn hold_land_in_their_shards() {
    play(&[
        hold::messages_for_a_sleeping_phone_are_accepted_and_delivered_in_order_when_it_registers,
        hold::a_message_to_an_awake_phone_goes_at_once_and_its_answer_goes_up,
        hold::a_message_goes_to_every_device_once_whether_it_sleeps_or_not,
        hold::a_message_that_is_kept_for_one_device_is_accepted_whatever_the_other_says,
        hold::a_delivery_that_the_phone_refuses_is_told_to_the_operator_and_the_next_goes_on,
        hold::a_connection_that_dies_under_the_delivery_keeps_the_message,
        hold::a_message_that_an_open_flow_does_not_answer_is_accepted_and_follows_the_phone,
        hold::a_message_that_nobody_fetches_expires_and_leaves_nothing,
        hold::a_message_never_makes_a_voip_push,
        hold::what_is_kept_for_an_agent_is_bounded,
        hold::without_message_hold_a_message_waits_as_long_as_its_sender,
        hold::of_the_notifies_for_a_sleeping_phone_the_newest_of_each_event_package_is_delivered,
        hold::what_another_agents_phone_waits_for_is_its_own,
        hold::another_request_waits_for_a_woken_phone_as_long_as_its_sender_does,
        hold::what_is_kept_waits_for_a_2xx_of_the_register_that_is_durable,
    ]);
}

#[test]
fn oversize_land_in_their_shards() {
    play(&[
        oversize::a_request_above_1300_bytes_goes_to_the_upstream_by_tcp,
        oversize::where_tcp_is_refused_it_goes_as_a_datagram_and_that_is_remembered,
        oversize::a_caller_that_hangs_up_while_tcp_is_tried_gets_487_and_nobody_is_called,
        oversize::a_large_register_goes_by_tcp_with_the_contact_that_it_has_otherwise,
        oversize::a_large_ack_takes_the_connection_that_its_invite_had,
        oversize::a_phone_gets_a_large_request_over_its_flow_and_that_is_counted,
        oversize::an_upstream_over_tcp_gets_every_request_by_it,
    ]);
}

#[test]
fn pains_land_in_their_shards() {
    play(&[
        pains::an_app_that_wakes_on_a_new_connection_with_an_equal_contact_gets_its_call_there,
        pains::a_failure_from_where_the_phone_was_does_not_end_the_call_that_wakes_it,
        pains::a_phone_that_sleeps_for_days_is_woken_as_long_as_its_upstream_keeps_it,
        pains::a_month_is_kept_whole_and_what_asterisk_cuts_the_phone_is_told,
        pains::a_token_without_its_suffix_is_pushed_and_who_cannot_be_pushed_is_told_of,
        pains::a_push_that_fails_is_told_of,
        pains::while_a_phone_is_woken_the_caller_hears_what_was_chosen,
        pains::an_answer_from_a_phone_that_awaits_its_200_does_not_bring_the_call_before_it,
        pains::each_side_of_ours_has_a_record_route_line_of_its_own,
        pains::a_second_call_for_a_phone_in_a_call_is_sent_on_its_flow_and_not_pushed,
    ]);
}

#[test]
fn peers_land_in_their_shards() {
    play(&[
        peers::chan_sip_sends_options_before_the_200_of_the_register,
        peers::a_sleeping_phone_is_qualified_for_hours_and_never_woken_by_it,
        peers::chan_sips_mwi_notifies_reuse_their_branch_and_each_is_delivered,
        peers::an_mwi_notify_without_subscription_state_is_400_from_the_phone_and_that_passes,
        peers::chan_sips_cancel_has_no_route_and_its_ack_goes_to_the_contact_of_the_1xx,
        peers::without_a_1xx_asterisk_would_not_cancel_so_100_is_sent_at_once,
        peers::answered_elsewhere_reaches_the_phone_with_chan_sips_reason_and_with_both_of_pjsips,
        peers::in_a_dialog_chan_sip_sends_to_where_the_register_came_from_whatever_its_routes_say,
        peers::a_reinvite_straight_behind_the_ack_passes_and_the_first_contact_stays_chan_sips_target,
        peers::a_session_timers_reinvite_after_45_s_passes_and_pushes_nobody,
        peers::a_call_over_a_tcp_connection_of_asterisks_is_answered_over_it,
        peers::chan_sip_ends_a_phones_cancelled_call_with_487_before_the_200_of_the_cancel,
        peers::chan_sip_takes_path_without_supported_and_routes_invite_and_notify_by_it,
        peers::chan_sips_options_has_no_route_and_is_answered_for_a_contact_of_the_phones_own,
        peers::pjsip_wants_supported_path_and_its_420_passes_if_it_comes_all_the_same,
        peers::pjsips_200_without_path_with_every_contact_and_its_branch_as_tag_is_a_200,
        peers::pjsip_lists_path_in_its_200_and_the_phone_does_not_see_it,
        peers::pjsip_appends_its_path_again_to_cancel,
        peers::pjsip_appends_its_path_again_to_bye_behind_both_record_routes,
        peers::pjsips_reinvite_refreshes_its_target_and_the_next_requests_go_there,
        peers::pjsip_prints_our_contact_anew_and_it_still_names_the_device,
        peers::a_200_with_our_contact_printed_anew_grants_its_time,
        peers::a_phone_that_writes_an_escape_anew_is_the_same_phone,
        peers::an_answer_whose_to_is_spelt_otherwise_belongs_to_its_call,
        peers::an_endpoints_outbound_proxy_is_us_and_its_route_is_taken_off,
        peers::pjsip_forks_to_its_contacts_itself_and_each_call_reaches_its_own_device,
        peers::what_the_phone_answers_is_what_asterisk_gets,
        peers::provisional_answers_pass_with_and_without_a_body,
        peers::an_answer_twenty_seconds_after_the_100_completes_the_call,
        peers::pjsips_challenge_with_qop_and_opaque_passes_as_it_is,
    ]);
}

#[test]
fn registration_land_in_their_shards() {
    play(&[
        registration::a_register_is_relayed_with_our_contact_and_answered_with_the_phones_own,
        registration::the_200_waits_for_the_store_and_a_broken_store_makes_it_503,
        registration::a_notify_right_behind_the_2xx_finds_the_phone_that_still_waits_for_the_store,
        registration::a_phone_that_changed_hands_no_longer_rings_for_its_old_agent,
        registration::an_app_with_two_accounts_on_one_connection_keeps_both,
        registration::another_shards_claim_takes_the_phone_away,
        registration::in_path_mode_the_contact_names_the_transport_by_which_the_upstream_reaches_us,
        registration::one_device_leaving_does_not_unregister_the_agents_others,
        registration::a_device_that_comes_from_another_address_replaces_itself,
        registration::a_phone_without_push_is_gone_with_its_flow_and_one_with_push_sleeps,
        registration::a_binding_ends_at_its_expiry,
        registration::a_phone_that_cannot_be_woken_keeps_the_time_that_it_asked_for,
        registration::the_wildcard_removes_all_devices_of_the_agent,
        registration::by_choice_options_travel_to_a_phone_that_is_awake_and_are_answered_for_one_that_sleeps,
        registration::in_device_mode_each_device_has_its_own_contact,
        registration::in_path_mode_the_phones_contact_goes_up_without_its_token_and_with_path_and_its_option,
        registration::in_path_mode_a_device_that_comes_from_elsewhere_takes_its_old_contact_away,
        registration::options_during_the_first_register_is_answered_200,
        registration::a_domain_that_nobody_serves_is_not_relayed_to,
        registration::an_upstream_that_is_silent_fails_over_and_at_last_is_504,
        registration::in_path_mode_a_qualify_without_route_is_answered_for_the_device_that_its_contact_names,
        registration::a_pushed_device_and_its_registrar_are_told_so,
        registration::a_device_that_asks_is_told_which_services_there_are,
        registration::a_service_that_we_have_not_or_that_a_nearer_proxy_has_is_plain_sip,
    ]);
}

#[test]
fn rounds_land_in_their_shards() {
    play(&[
        rounds::a_woken_phone_that_is_challenged_gets_its_call_once_after_the_second_register,
        rounds::a_woken_phone_with_a_stale_nonce_needs_three_rounds,
        rounds::a_woken_phone_that_asks_too_little_asks_again,
        rounds::a_woken_phone_that_is_challenged_here_and_answers_from_there_gets_its_call_there,
        rounds::a_challenge_that_is_never_answered_leaves_the_call_its_time,
        rounds::a_woken_phone_that_is_refused_ends_its_call_and_learns_of_it_when_it_comes_after_all,
        rounds::another_device_of_the_agent_is_called_when_the_woken_one_is_refused,
        rounds::a_device_that_leaves_is_relayed_as_a_refresh_for_the_time_that_others_stay,
        rounds::a_device_that_asks_for_little_does_not_shorten_the_time_of_others,
        rounds::in_device_mode_a_device_takes_only_its_own_contact_away,
        rounds::an_app_whose_token_changed_with_its_agent_no_longer_rings_for_the_old_one,
        rounds::a_phone_that_is_awake_is_not_taken_from_its_agent_by_its_instance_alone,
        rounds::a_time_that_the_upstream_cuts_is_reported,
    ]);
}

#[test]
fn providers_land_in_their_shards() {
    play(&[
        providers::a_browser_is_told_our_key_and_the_registrar_is_not,
        providers::an_operators_own_service_is_named_as_he_names_it,
        providers::a_sleeping_browser_and_a_phone_of_ones_own_service_are_woken_and_told_of_the_end,
        providers::a_subscription_elsewhere_is_plain_sip_and_the_operator_hears_why,
        providers::a_subscription_that_is_gone_is_forgotten,
        providers::a_phone_that_says_nothing_is_woken_as_it_was_entered,
        providers::a_phone_that_says_something_is_believed_before_what_was_entered,
        providers::what_was_entered_is_for_the_phone_that_it_names,
    ]);
}

#[test]
fn verdicts_land_in_their_shards() {
    play(&[
        verdicts::a_dead_or_wrong_token_ends_its_branch_while_another_phone_is_still_woken_and_answers,
        verdicts::a_phone_with_an_open_connection_loses_only_its_token,
        verdicts::a_dead_token_for_alerts_goes_and_calls_still_wake,
        verdicts::a_refresh_that_finds_the_only_token_dead_ends_the_binding,
        verdicts::a_verdict_on_a_token_that_was_replaced_meanwhile_condemns_nobody,
        verdicts::a_token_that_was_registered_again_after_the_push_is_kept,
        verdicts::our_own_faults_end_the_branch_and_condemn_no_token,
        verdicts::a_failing_service_is_asked_ever_later_and_only_inside_the_calls_time,
        verdicts::a_service_that_wants_longer_than_the_call_lasts_is_not_asked_again,
        verdicts::the_second_call_pushes_when_the_first_hung_up_before_the_next_try,
        verdicts::two_calls_that_wait_for_a_failing_service_try_again_by_one_push,
        verdicts::a_phone_that_is_called_without_end_is_pushed_so_often_and_no_call_is_lost_by_it,
    ]);
}

#[test]
fn sips_land_in_their_shards() {
    play(&[
        sips::a_phones_call_to_a_sips_uri_goes_over_tls_and_is_recorded_as_sips,
        sips::where_the_upstream_has_no_tls_it_is_480_and_says_why,
        sips::a_call_to_a_sips_uri_reaches_the_phone_on_tls_alone,
        sips::a_sleeping_phone_that_wakes_without_tls_does_not_get_a_call_to_a_sips_uri,
        sips::a_phone_whose_contact_is_sips_keeps_its_dialogs_on_tls,
    ]);
}

#[test]
fn wake_land_in_their_shards() {
    play(&[
        wake::a_sleeping_phone_is_pushed_and_gets_exactly_one_invite_after_its_200,
        wake::an_app_that_wakes_with_another_instance_but_its_token_gets_the_call_and_stays_one_device,
        wake::a_phone_that_never_wakes_gets_480_after_wake_timeout,
        wake::a_cancel_while_the_phone_sleeps_is_487_at_once_and_the_late_iphone_learns_that_the_call_is_over,
        wake::a_late_phone_that_answers_a_call_that_is_over_is_hung_up,
        wake::a_late_phone_that_is_in_another_call_is_left_alone,
        wake::a_notify_on_its_way_to_a_late_phone_is_no_other_call,
        wake::a_phone_that_wakes_after_the_caller_was_told_480_learns_that_the_call_is_over,
        wake::a_phone_that_comes_too_late_gets_nothing,
        wake::a_call_that_ends_before_its_push_left_sends_none_and_no_word_of_its_end,
        wake::a_phone_that_comes_by_itself_has_its_push_withdrawn,
        wake::an_android_phone_is_told_of_the_end_by_a_push_and_gets_no_late_call,
        wake::a_dead_token_fails_its_branch_at_once_and_is_forgotten,
        wake::a_token_that_died_before_it_was_registered_again_is_kept,
        wake::a_throttled_push_is_tried_again_inside_the_calls_time,
        wake::two_calls_at_once_share_one_wake_and_both_are_delivered,
        wake::a_restart_forgets_no_acknowledged_binding_and_the_call_wakes_it,
        wake::an_open_connection_is_asked_by_options_and_any_answer_saves_the_push,
        wake::a_phone_that_answers_on_its_connection_after_it_was_pushed_gets_the_call_there,
        wake::a_silent_udp_phone_is_asked_by_options_and_then_pushed,
        wake::an_invite_that_draws_no_1xx_is_helped_by_a_push_and_follows_the_phone,
        wake::a_phone_that_wakes_where_its_invite_was_sent_need_not_wait_for_timer_a,
        wake::a_cancel_while_the_invite_draws_no_1xx_and_the_phone_is_pushed_is_487_at_once,
        wake::a_phone_that_was_silent_where_it_was_called_learns_elsewhere_that_the_call_is_over,
        wake::a_connection_that_dies_under_the_invite_wakes_the_phone,
        wake::a_request_to_the_agent_by_its_bare_address_finds_it,
        wake::a_lost_store_keeps_calls_going,
        wake::a_sleeping_phone_is_asked_to_register_again_before_its_end_and_never_by_a_voip_push,
        wake::a_phone_with_a_voip_token_alone_is_not_refreshed_and_the_operator_hears_why,
        wake::a_phone_that_neither_answers_nor_wakes_is_pushed_once_and_then_480,
    ]);
}

#[test]
fn races_land_in_their_shards() {
    play(&[
        races::a_phone_that_moved_and_rings_where_it_was_called_first_rings_once,
        races::a_phone_that_moved_and_rings_where_it_is_stops_ringing_where_it_was,
        races::a_phone_that_refuses_the_second_invite_as_merged_keeps_the_first,
        races::an_answer_to_the_first_invite_of_a_phone_that_moved_is_the_calls,
        races::an_invite_that_was_left_behind_is_not_sent_again,
        races::a_phone_that_answers_without_ringing_after_its_caller_was_told_487_is_hung_up,
        races::phones_of_a_lower_q_do_not_wait_for_a_late_one,
        races::a_late_phone_that_changes_hands_is_forgotten_with_its_call,
        races::a_phone_that_rang_after_its_push_and_lost_its_connection_is_woken_again,
        races::a_ringing_phone_whose_registration_ended_and_then_its_connection_rings_no_more,
        races::a_phone_without_push_that_came_back_as_another_instance_is_called_once,
        races::a_token_that_died_under_a_refresh_is_pushed_no_more,
        races::a_phone_that_leaves_and_is_back_before_that_is_written_stays,
        races::two_registers_of_one_device_that_meet_leave_one_binding,
        races::a_call_between_two_registers_of_one_device_reaches_it_where_it_is,
        races::a_register_that_is_not_granted_yet_takes_no_binding_away,
        races::a_late_phone_that_does_not_answer_holds_up_no_cancelled_call,
        races::a_phone_that_changed_hands_after_its_token_died_rings_for_its_new_agent_alone,
        races::a_cancelled_phone_that_moved_ends_its_call_with_its_old_connection,
        races::a_caller_waits_no_longer_for_a_late_ring_than_for_his_cancel,
        races::of_two_registers_answered_in_the_wrong_order_the_last_to_arrive_counts,
        races::a_register_whose_connection_is_gone_does_not_count_as_the_last,
        races::a_phone_that_leaves_in_the_wrong_order_stays,
        races::a_phone_that_changed_hands_in_the_wrong_order_rings_for_its_new_agent_alone,
        races::a_phone_that_changed_hands_after_its_token_died_and_a_restart_rings_for_its_new_agent,
        races::a_phone_installed_anew_whose_registration_ended_while_it_was_woken_gets_its_call,
        races::a_copy_of_an_older_register_that_arrives_last_does_not_count,
        races::a_phone_that_declines_where_it_was_called_first_declines_the_call,
        races::a_phone_whose_first_invite_ends_with_its_connection_keeps_the_second,
        races::a_ringing_phone_whose_registration_ended_gets_its_call_where_it_registers,
    ]);
}

#[test]
fn no_scene_is_forgotten() {
    let this = include_str!("shards.rs");
    for (module, text) in [
        ("calls", include_str!("calls.rs")),
        ("dialogs", include_str!("dialogs.rs")),
        ("hold", include_str!("hold.rs")),
        ("missed", include_str!("missed.rs")),
        ("oversize", include_str!("oversize.rs")),
        ("pains", include_str!("pains.rs")),
        ("peers", include_str!("peers.rs")),
        ("providers", include_str!("providers.rs")),
        ("races", include_str!("races.rs")),
        ("registration", include_str!("registration.rs")),
        ("rounds", include_str!("rounds.rs")),
        ("verdicts", include_str!("verdicts.rs")),
        ("sips", include_str!("sips.rs")),
        ("wake", include_str!("wake.rs")),
    ] {
        for scene in text.split("#[test]\n").skip(1) {
            let name = scene.split('(').next().unwrap().rsplit(' ').next().unwrap();
            let listed = format!("{module}::{name},");
            assert!(this.contains(&listed), "add `{listed}` (and `pub` to it)");
        }
    }
}

/// A phone whose Contact has another user than its agent, in path mode.
fn with_another_user() -> (World, String) {
    let mut world = World::with(settings(ContactMode::Path));
    let mut route = String::new();
    // Agents enough to be in every shard.
    for at in 1..=9_u16 {
        let user = format!("100{at}");
        let text = register(udp(at), &user, "", "", 7200, u32::from(at)).replacen(
            &format!("Contact: <sip:{user}@10.0.0.5"),
            &format!("Contact: <sip:line{at}@10.0.0.{at}"),
            1,
        );
        world.receive(udp(at), text);
        let relayed = world.expect("REGISTER");
        route = format!("Route: {}\r\n", relayed.header(HeaderName::Path));
        world.receive(pbx(), ok_to_register(&relayed));
        world.expect("SIP/2.0 200");
    }
    (world, route)
}

/// chan_sip's CANCEL has no Route, and its Request-URI is the phone's own Contact: it names nobody.
#[test]
fn a_cancel_that_names_nobody_finds_its_invite_and_is_answered_once() {
    for shards in SHARDS {
        with_shards(shards, || {
            let (mut world, route) = with_another_user();
            let uri = "sip:line9@10.0.0.9:5060";
            let invite = invite_to(uri, "c1").replacen("Max-", &format!("{route}Max-"), 1);
            world.receive(pbx(), &invite);
            world.expect("SIP/2.0 100");
            let sent = world.expect(&format!("INVITE {uri}"));
            assert_eq!(sent.to, Destination::Flow(udp(9).id));
            world.receive(udp(9), response(&sent, "180 Ringing", ""));
            world.expect("SIP/2.0 180");
            let cancel = invite_to(uri, "c1").replace("INVITE", "CANCEL");
            world.receive(pbx(), &cancel);
            world.expect("SIP/2.0 200");
            let onward = world.expect("CANCEL");
            world.expect_nothing();
            // A copy of it gets the same answer, from there alone.
            world.receive(pbx(), &cancel);
            world.expect("SIP/2.0 200");
            world.expect_nothing();
            world.receive(udp(9), response(&onward, "200 OK", ""));
            world.receive(udp(9), response(&sent, "487 Request Terminated", ""));
            world.expect("ACK");
            world.expect("SIP/2.0 487");
            let ack = invite_to("sip:other@10.0.0.9", "c1").replace("INVITE", "ACK");
            world.receive(pbx(), ack);
            world.expect_nothing();
            world.assert_quiet();
        });
    }
}

#[test]
fn a_strict_routers_request_lands_where_its_token_says() {
    for shards in SHARDS {
        with_shards(shards, || {
            let (mut world, route) = with_another_user();
            let uri = "sip:line9@10.0.0.9:5060";
            let invite = invite_to(uri, "c1").replacen("Max-", &format!("{route}Max-"), 1);
            world.receive(pbx(), &invite);
            world.expect("SIP/2.0 100");
            let sent = world.expect("INVITE");
            world.receive(udp(9), response(&sent, "200 OK", ""));
            world.expect("SIP/2.0 200");
            let recorded = sent.header(HeaderName::RecordRoute);
            let bye = invite_to(recorded.trim_matches(['<', '>']), "c1")
                .replace("INVITE", "BYE")
                .replacen("branch=z9hG4bKc1", "branch=z9hG4bKbye", 1)
                .replacen(">\r\nContact", ">;tag=remote\r\nContact", 1)
                .replacen("Max-", &format!("Route: <{uri}>\r\nMax-"), 1);
            world.receive(pbx(), bye);
            let bye = world.expect(&format!("BYE {uri}"));
            world.receive(udp(9), response(&bye, "200 OK", ""));
            world.expect("SIP/2.0 200");
            world.assert_quiet();
        });
    }
}

/// Two accounts of one app on one connection, in two shards.
#[test]
fn each_account_on_a_connection_is_served_by_its_own_shard() {
    for shards in SHARDS {
        with_shards(shards, || {
            let mut world = World::new();
            for at in 1..=9_u16 {
                world.register_for(tcp(1), &format!("100{at}"), APNS, "", 7200);
            }
            for at in 1..=9_u16 {
                let user = format!("100{at}");
                let call = format!("out{at}");
                let text = format!(
                    "
INVITE sip:600@pbx.example.com SIP/2.0
{}
Max-Forwards: 70
From: <sip:{user}@pbx.example.com>;tag=p
To: <sip:600@pbx.example.com>
Contact: <sip:{user}@10.0.0.5:5060>
Call-ID: {call}
CSeq: 1 INVITE
Content-Length: 0

",
                    via(tcp(1), &format!("z9hG4bK{call}"))
                );
                world.receive(tcp(1), crlf(&text));
                world.expect("SIP/2.0 100");
                let sent = world.expect("INVITE sip:600@pbx.example.com");
                world.receive(pbx(), response(&sent, "180 Ringing", ""));
                world.expect("SIP/2.0 180");
                world.receive(tcp(1), crlf(&text.replace("INVITE", "CANCEL")));
                world.expect("SIP/2.0 200");
                let cancel = world.expect("CANCEL");
                world.receive(pbx(), response(&cancel, "200 OK", ""));
                world.receive(pbx(), response(&sent, "487 Request Terminated", ""));
                world.expect("ACK");
                world.expect("SIP/2.0 487");
                world.receive(tcp(1), crlf(&text.replace("INVITE", "ACK")));
                // And the other way.
                world.receive(pbx(), invite(&user, &format!("in{at}")));
                world.expect("SIP/2.0 100");
                let sent = world.expect("INVITE");
                assert_eq!(sent.to, Destination::Flow(tcp(1).id));
                world.receive(tcp(1), response(&sent, "486 Busy Here", ""));
                world.expect("ACK");
                world.expect("SIP/2.0 486");
            }
            world.close(tcp(1));
            assert_eq!(world.count().1, 0, "every shard has heard of it");
            world.assert_quiet();
        });
    }
}

/// Two accounts of one app on one connection; one leaves while its call is being set up. What it
/// repeats is still the shard's that knows the call, which is sent once.
#[test]
fn a_call_of_an_account_that_left_its_connection_is_still_one_call() {
    for shards in SHARDS {
        with_shards(shards, || {
            for at in 1..=9_u16 {
                let mut world = World::new();
                for at in 1..=9_u16 {
                    world.register_for(udp(1), &format!("100{at}"), "", "", 7200);
                }
                let user = format!("100{at}");
                let text = crlf(&format!(
                    "
INVITE sip:600@pbx.example.com SIP/2.0
{}
Max-Forwards: 70
From: <sip:{user}@pbx.example.com>;tag=p
To: <sip:600@pbx.example.com>
Contact: <sip:{user}@10.0.0.5:5060>
Call-ID: out
CSeq: 1 INVITE
Content-Length: 0

",
                    via(udp(1), "z9hG4bKout")
                ));
                world.receive(udp(1), &text);
                world.expect("SIP/2.0 100");
                let sent = world.expect("INVITE");
                world.receive(udp(1), register(udp(1), &user, "", "", 0, 99));
                let relayed = world.expect("REGISTER");
                world.receive(pbx(), ok_to_register(&relayed));
                world.expect("SIP/2.0 200");
                world.receive(udp(1), &text);
                world.expect("SIP/2.0 100");
                world.expect_nothing();
                world.receive(pbx(), response(&sent, "180 Ringing", ""));
                world.expect("SIP/2.0 180");
                world.receive(udp(1), text.replace("INVITE", "CANCEL"));
                world.expect("SIP/2.0 200");
                let cancel = world.expect("CANCEL");
                world.receive(pbx(), response(&cancel, "200 OK", ""));
                world.receive(pbx(), response(&sent, "487 Request Terminated", ""));
                world.expect("ACK");
                world.expect("SIP/2.0 487");
                world.receive(udp(1), text.replace("INVITE", "ACK"));
                world.expect_nothing();
                world.assert_quiet();
            }
        });
    }
}
