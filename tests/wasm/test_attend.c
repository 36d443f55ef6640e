/* donjon_store_set_attend: programs that are interrupted, attended to, and go on as if nothing had been. */
#include <donjon/wasm.h>
#include "disturb.h"
#include "modules/modules.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/time.h>
#include <cmocka.h>

enum { TIERS = 3 };
static const struct donjon_limits tiers[TIERS] = {{0}, {.explicit_checks = true}, {.interpret = true}};

static struct rig {
    wasm_engine_t *engine;
    wasm_store_t *store;
    wasm_module_t *module;
    wasm_instance_t *instance;
    struct disturb disturb;
} r;

static void interrupt(void *store) {
    donjon_store_interrupt(store);
}

static void rig_start(unsigned tier) {
    struct donjon_module_error err;
    wasm_trap_t *trap;
    r.engine = wasm_engine_new();
    r.store = donjon_store_new(r.engine, &tiers[tier]);
    assert_true(donjon_platform_posix_rearm()); /* cmocka has its own signal handlers */
    r.module = donjon_module_new(r.store, attend_wasm, sizeof attend_wasm, &err);
    assert_non_null(r.module);
    donjon_linker_t *l = donjon_linker_new(r.store);
    r.instance = donjon_linker_instantiate(l, r.module, &trap);
    assert_non_null(r.instance);
    donjon_linker_delete(l);
    r.disturb = (struct disturb){.interrupt = interrupt, .store = r.store};
}

static void rig_stop(void) {
    wasm_instance_delete(r.instance);
    wasm_module_delete(r.module);
    wasm_store_delete(r.store);
    wasm_engine_delete(r.engine);
}

/* The kind of trap, 0 for none; *frames: of its backtrace. */
static int call_frames(const char *name, int32_t *value, size_t *frames) {
    donjon_slot_t slots[1] = {{.i32 = *value}};
    wasm_func_t *f = wasm_extern_as_func(donjon_instance_export(r.instance, name));
    assert_non_null(f);
    wasm_trap_t *trap = donjon_func_call(f, slots);
    wasm_func_delete(f);
    *value = slots[0].i32;
    if (!trap) return 0;
    int kind = (int)donjon_trap_kind(trap);
    donjon_trap_frames(trap, frames);
    wasm_trap_delete(trap);
    return kind;
}
static int call(const char *name, int32_t *value) {
    size_t frames;
    return call_frames(name, value, &frames);
}

/* The result of a call that must not trap; interrupted `times` times as closely as the tier can be. */
static int32_t result(const char *name, int32_t value, unsigned long times) {
    donjon_store_set_attend(r.store, times ? disturb_attend : NULL, &r.disturb);
    r.disturb.left = times;
    r.disturb.times = 0;
    if (times) donjon_store_interrupt(r.store);
    assert_int_equal(call(name, &value), 0);
    if (times) assert_true(r.disturb.times > 0);
    unsigned long seen = r.disturb.times;
    if (r.disturb.left) { /* one is pending */
        int32_t some = 17;
        r.disturb.left = 0;
        assert_int_equal(call("fib", &some), 0);
        r.disturb.times = seen;
    }
    donjon_store_set_attend(r.store, NULL, NULL);
    return value;
}

static void results_stay_the_same(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int32_t argument;
        unsigned long polls; /* at least, but in the interpreter: so much is looked for interrupts */
    } programs[] = {{"mix", 200, 20000}, {"fib", 20, 10000}, {"tails", 20001, 20001}, {"fill", 300, 600}};
    for (unsigned tier = 0; tier < TIERS; tier++)
        for (unsigned k = 0; k < sizeof programs / sizeof programs[0]; k++) {
            rig_start(tier);
            int32_t attended = result(programs[k].name, programs[k].argument, 5000); /* also while it is compiled */
            if (tier < 2) assert_int_equal(r.disturb.times, programs[k].polls < 5001 ? r.disturb.times : 5001);
            if (tier < 2 && programs[k].polls < 5001) assert_true(r.disturb.times >= programs[k].polls);
            int32_t alone = result(programs[k].name, programs[k].argument, 0);
            assert_int_equal(attended, alone);
            assert_int_equal(result(programs[k].name, programs[k].argument, 100), alone);
            rig_stop();
        }
}

/* By a signal, at any instruction. */
static void on_alarm(int signal) {
    (void)signal;
    donjon_store_interrupt(r.store);
}

static bool count_up(void *ctx) {
    ++*(unsigned *)ctx;
    return true;
}

static void signals_at_any_moment(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = on_alarm}, before;
    const struct itimerval often = {.it_interval = {.tv_usec = 300}, .it_value = {.tv_usec = 300}}, never = {0};
    for (unsigned tier = 0; tier < TIERS; tier++) {
        unsigned times = 0;
        rig_start(tier);
        int32_t mix = result("mix", 3000, 0), fib = result("fib", 18, 0);
        assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
        donjon_store_set_attend(r.store, count_up, &times);
        setitimer(ITIMER_REAL, &often, NULL);
        for (unsigned k = 0; k < 20 || times < 10; k++) {
            int32_t value = 3000;
            assert_int_equal(call("mix", &value), 0);
            assert_int_equal(value, mix);
            value = 18;
            assert_int_equal(call("fib", &value), 0);
            assert_int_equal(value, fib);
        }
        setitimer(ITIMER_REAL, &never, NULL);
        sigaction(SIGALRM, &before, NULL);
        rig_stop();
    }
}

/* "Stop" is the trap that it would have been without anybody who attends. */
static void stops(void **state) {
    (void)state;
    for (unsigned tier = 0; tier < TIERS; tier++) {
        int32_t value = 0;
        size_t frames = 0;
        rig_start(tier);
        r.disturb.stop = true;
        r.disturb.left = 100; /* the first in the call */
        donjon_store_set_attend(r.store, disturb_attend, &r.disturb);
        donjon_store_interrupt(r.store);
        assert_int_equal(call_frames("spin", &value, &frames), DONJON_TRAP_INTERRUPT);
        assert_int_equal(frames, 1);
        assert_int_equal(r.disturb.times, 101);
        value = 5;
        assert_int_equal(call("fib", &value), 0); /* spent */
        assert_int_equal(value, 5);
        r.disturb.left = 50;
        donjon_store_interrupt(r.store);
        value = 40;
        assert_int_equal(call_frames("fib", &value, &frames), DONJON_TRAP_INTERRUPT);
        assert_true(frames > 1);
        donjon_store_set_attend(r.store, NULL, NULL);
        donjon_store_interrupt(r.store);
        assert_int_equal(call("spin", &value), DONJON_TRAP_INTERRUPT);
        rig_stop();
    }
}

/* Where the stack ends, too. */
static void at_the_end_of_the_stack(void **state) {
    (void)state;
    for (unsigned tier = 0; tier < TIERS; tier++) {
        int32_t value = 0;
        rig_start(tier);
        r.disturb.left = UINT32_MAX;
        donjon_store_set_attend(r.store, disturb_attend, &r.disturb);
        donjon_store_interrupt(r.store);
        assert_int_equal(call("fall", &value), DONJON_TRAP_STACK);
        assert_true(r.disturb.times > 10);
        rig_stop();
    }
}

/* It may not call in: that fails, and does no harm. */
static bool call_in(void *ctx) {
    int32_t value = 3;
    ++*(unsigned *)ctx;
    assert_int_equal(call("fib", &value), DONJON_TRAP_STACK);
    return true;
}

static void no_calls_from_there(void **state) {
    (void)state;
    for (unsigned tier = 0; tier < TIERS; tier++) {
        unsigned times = 0;
        rig_start(tier);
        int32_t alone = result("mix", 100, 0), value = 100;
        donjon_store_set_attend(r.store, call_in, &times);
        donjon_store_interrupt(r.store);
        assert_int_equal(call("mix", &value), 0);
        assert_int_equal(value, alone);
        assert_int_equal(times, 1);
        rig_stop();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_stay_the_same),   cmocka_unit_test(signals_at_any_moment), cmocka_unit_test(stops),
        cmocka_unit_test(at_the_end_of_the_stack), cmocka_unit_test(no_calls_from_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
