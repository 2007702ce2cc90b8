//! Bodies that no rule was written for. What each of them does was written down (`expected.toml`) before the check saw
//! them, and the rules were not changed after.

mod arguments;
mod libraries;
mod ways;

macro_rules! bodies {
    ($($module:ident :: $body:ident),* $(,)?) => {
        &[$((stringify!($body), $module::$body as fn())),*]
    };
}

const BODIES: &[(&str, fn())] = bodies![
    arguments::all,
    libraries::ctrlc_handler,
    libraries::indicatif_tick,
    libraries::tracing_appender_writer,
    libraries::scheduled_pool,
    libraries::signal_iterator,
    libraries::ignore_parallel,
    libraries::jwalk_walk,
    libraries::minreq_get,
    libraries::tungstenite_connect,
    libraries::dashmap_and_json,
    libraries::flate_compress,
    libraries::socket2_bind,
    libraries::async_io_timer,
    libraries::pollster_ready,
    libraries::rusty_pool_execute,
    libraries::log_message,
    ways::thread_local_spawns,
    ways::once_cell_spawns,
    ways::callback_through_c,
    ways::map_of_functions,
    ways::iterator_adaptor_spawns,
    ways::deref_spawns,
    ways::display_spawns,
    ways::enum_over_channel,
    ways::kanal_closure,
    ways::tokio_mpsc_closure,
    ways::local_set,
    ways::tokio_stdout,
    ways::tokio_sleep_and_select,
    ways::tokio_process,
    ways::tokio_resolve_numeric,
    ways::runtime_new,
    ways::own_rayon_pool,
    ways::par_sort,
    ways::futures_join,
    ways::builder_in_scope,
    ways::panics,
];

fn main() {
    let wanted = std::env::args().nth(1);
    for (name, body) in BODIES {
        if wanted.as_deref() == Some(name) {
            body();
        }
    }
}
