//! Views where `/etc`, `/run` and `/sys` are as on other machines: each case is a process of
//! `tests/src/bin/separate/views.rs`.

use std::process::Command;

use in_netns_tests::{Scratch, as_ordinary_user, lasting_mounts, output_of, separate, start_until};
use rstest::rstest;

#[rstest]
#[case::the_directory_of_a_name_is_shown_as_by_ip("named")]
#[case::the_directory_of_a_name_that_is_a_link_is_shown("linked")]
#[case::files_that_are_replaced_at_home_stay_covered("replaced")]
#[case::a_file_that_is_missing_is_an_error("missing")]
#[case::a_file_that_keeps_no_mount_is_an_error("no-mount")]
#[case::programs_that_answer_for_names_are_not_asked("services")]
#[case::a_limit_of_the_size_of_files_is_an_error("file-size")]
#[case::nscd_is_covered_whatever_nsswitch_has("nscd")]
#[case::an_entry_may_not_cover_the_directory_of_the_view("own-directory")]
#[case::a_file_of_names_that_is_made_later_is_replaced("late-nsswitch")]
#[case::sockets_that_are_made_later_are_covered("late-sockets")]
#[case::a_directory_of_a_name_that_is_made_later_is_shown("late-directory")]
#[case::where_no_nscd_can_be_there_is_a_view("no-nscd")]
#[case::two_names_of_one_file_are_an_error("one-file")]
#[case::an_entry_may_lead_into_another_one("below")]
#[case::a_jail_without_sys_can_have_views("jail")]
#[case::where_sysfs_may_not_be_mounted_there_is_an_error("covered")]
#[case::what_covers_an_interface_of_home_is_not_shown("interface-mounts")]
#[case::what_is_unmounted_at_home_stops_no_view("unmounted")]
#[case::the_root_of_the_process_is_kept("chroot")]
#[case::no_module_of_a_process_is_loaded("modules")]
#[case::no_module_of_a_process_with_the_same_root_is_loaded("modules same-root")]
#[case::no_module_of_a_process_is_loaded_later("modules before")]
#[case::no_module_of_a_process_with_the_same_root_is_loaded_later("modules before same-root")]
#[case::no_module_of_a_process_is_loaded_by_default("modules missing")]
#[case::without_a_way_back_there_is_no_view("foreign-mounts")]
fn views_work_as_the_user_of_the_tests_and_as_an_ordinary_user(#[case] case: &str) {
    let scratch = Scratch::new();
    let program = scratch.program(env!("CARGO_BIN_EXE_separate"));
    output_of(Command::new(&program).arg("views").args(case.split(' ')));
    output_of(as_ordinary_user(Command::new(&program).arg("views").args(case.split(' '))));
}

#[test]
fn a_process_that_is_killed_half_way_leaves_no_mount() {
    let before = lasting_mounts("self");
    for _ in 0..20 {
        let (mut child, _) = start_until(separate!("views").arg("loop"), "again");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(lasting_mounts("self"), before);
    }
}
