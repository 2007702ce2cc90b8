//! Bodies whose verdicts are known (`expected.toml`): each of them is one row, or a part of one, of the table that
//! `cargo netns-check` has to get right. They are built and looked at, not run.

mod attribute;
mod executors;
mod foreign;
mod kernel;
mod libraries;
mod others;
mod plain;
mod threads;

/// Keeps every body in the program: what nothing refers to is not compiled.
macro_rules! bodies {
    ($($module:ident :: $body:ident),* $(,)?) => {
        &[$((stringify!($body), $module::$body as fn())),*]
    };
}

const BODIES: &[(&str, fn())] = bodies![
    attribute::synchronous,
    attribute::asynchronous,
    executors::tokio_spawn,
    executors::tokio_handle_spawn,
    executors::tokio_spawn_blocking,
    executors::tokio_fs_read,
    executors::rayon_join,
    executors::rayon_par_iter,
    executors::rayon_scope,
    executors::smol_spawn,
    executors::blocking_unblock,
    executors::async_std_spawn,
    executors::futures_pool,
    executors::threadpool_execute,
    executors::tokio_lookup_in_own_runtime,
    executors::tokio_handle_in_thread_local,
    executors::tokio_socket_over_std,
    executors::tokio_multi_thread,
    executors::boxed_closure_over_std,
    executors::boxed_closure_over_crossbeam,
    executors::boxed_closure_over_flume,
    executors::contained_tokio,
    executors::contained_run_async,
    executors::contained_call_async,
    executors::thread_in_outcome_async,
    executors::contained_spawn_async,
    executors::contained_service,
    executors::thread_in_spawn_async,
    executors::thread_in_call_spawn_async,
    executors::thread_in_async_closure,
    executors::thread_in_task_of_service,
    executors::thread_in_timeout_of_service,
    executors::thread_in_closure_of_service,
    foreign::c_library_spawns,
    foreign::c_library_clean,
    kernel::reads_proc_net,
    kernel::reads_own_proc_net,
    kernel::reads_sys_class_net,
    kernel::reads_formatted,
    kernel::reads_by_number,
    kernel::reads_procfs,
    kernel::reads_own_thread,
    kernel::io_uring_own,
    kernel::io_uring_from_elsewhere,
    kernel::thread_local_socket,
    kernel::logs,
    kernel::closure_over_tokio,
    kernel::closure_in_enum,
    kernel::runtime_for_trait_object,
    kernel::trait_object_of_caller,
    kernel::runtime_in_reach,
    kernel::runtime_in_static,
    kernel::runtime_of_caller,
    kernel::handle_of_caller,
    kernel::attributes,
    others::adapter_netns_rs,
    others::adapter_nlink,
    others::adapter_nlink_path,
    others::adapter_ztunnel,
    others::adapter_ztunnel_clean,
    others::adapter_dataplane,
    others::adapter_patchbay_sync,
    others::adapter_patchbay_spawn,
    others::region_libc,
    others::region_libc_unshare,
    others::region_nix,
    others::region_nix_unshare,
    others::region_rustix,
    others::region_clean,
    others::no_region,
    others::region_guard,
    others::region_new_guard,
    others::region_macro,
    others::region_closure,
    others::region_thread,
    others::awaits,
    libraries::notify_watches,
    libraries::ureq_get,
    libraries::attohttpc_get,
    libraries::reqwest_blocking_get,
    plain::udp_socket,
    plain::command_output,
    plain::tcp_connect_by_name,
    plain::maps_and_sorting,
    plain::current_thread_runtime,
    plain::clean_trait_object,
    plain::numbers_over_channel,
    plain::nested_calls,
    plain::nested_async_calls,
    plain::calls_a_spawner,
    threads::spawn_directly,
    threads::spawn_three_down,
    threads::spawn_by_generic,
    threads::spawn_by_closure,
    threads::spawn_by_boxed_closure,
    threads::spawn_by_table,
    threads::spawn_by_lazy_lock,
    threads::spawn_by_drop,
    threads::builds_service,
    threads::spawn_by_library,
    threads::scoped,
    threads::scoped_by_crossbeam,
    threads::spawn_inside_scope,
    threads::by_netns_run,
    threads::by_call_run,
    threads::by_call_outcome,
    threads::by_worker,
    threads::by_walk,
    threads::by_par_walk,
    threads::by_pinned,
    threads::by_function_item,
    threads::calls_trait_argument_here,
    threads::calls_fn_argument_here,
    threads::passes_fn_argument_here,
    threads::holds_trait_argument_here,
];

fn main() {
    let wanted = std::env::args().nth(1);
    for (name, body) in BODIES {
        if wanted.as_deref() == Some(name) {
            body();
        }
    }
}
