/* A C library that starts a thread through a table of callbacks, and one that does not. */
#include <pthread.h>
#include <stddef.h>

static void *watch(void *arg) { return arg; }

static int start_watching(void) {
    pthread_t thread;
    return pthread_create(&thread, NULL, watch, NULL);
}

static int start_nothing(void) { return 0; }

struct operations {
    const char *name;
    int (*start)(void);
};

static const struct operations OPERATIONS[] = {{"nothing", start_nothing}, {"watch", start_watching}};

int watcher_start(size_t which) { return OPERATIONS[which].start(); }

int watcher_version(void) { return 3; }
