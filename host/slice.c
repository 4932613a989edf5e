/* Slices: what a script may use while it runs, measured around each resume and paid by the task that was
 * limited.
 *
 * Limits are cut in a way that pcall does not escape: once the time for closers is over, the task is set
 * aside and ended there; where it cannot be, the hook stays armed at every instruction. Budgets count
 * processor time; a machine with much else to do takes nothing of them.
 *
 * In virtual time tasks take turns where they wait, so that the same always happens in the same order; one
 * that never waits is set aside after seconds only.
 */
#include "task_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "coverage.h"
#include "crash_note.h"
#include "bind.h"
#include "host.h"
#include "watchdog.h"

/* How much processor time a limited script may take where it cannot be set aside: in a metamethod that a C
 * function called, in a coroutine of its own. table.sort and string.gsub can be set aside. */
#define STUCK_NS (100 * UINT64_C(1000000))

/* How long a slice may last in virtual time. */
#define VIRTUAL_NS (2 * UINT64_C(1000000000))

/* What the closers of a task that was cut may take. */
#define GRACE_NS (20 * UINT64_C(1000000))

/* How long a slice may last in which a deadline was raised. */
#define RAISING_NS (2 * WATCHDOG_SLICE_MS * UINT64_C(1000000))

/* A slice this short is charged by the wall's clock, which costs nothing; asking the kernel for processor
 * time costs a system call, so that is for the long ones: they may have waited for the processor. */
#define SHORT_NS UINT64_C(100000)

/* How many tasks a limited script may have alive at once. */
#define PAID_TASKS_MAX 1000u

/* ---- the slice ---- */

static uint64_t processor_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

void slice_turn(struct task_set *set)
{
    set->known_ns = processor_ns();
    set->since_ns = 0;
    set->turn++;
}

bool slice_had_turn(const struct task_set *set, const struct task *t)
{
    return !t->host->clock.is_virtual && t->payer->turn == set->turn &&
           t->payer->turn_ns >= WATCHDOG_SLICE_MS * UINT64_C(1000000);
}

/* What the slice has used so far. */
static uint64_t slice_ns(const struct task_set *set, uint64_t wall, uint64_t now)
{
    uint64_t used = now - set->known_ns;

    used = used > set->since_ns ? used - set->since_ns : 0;
    return used < wall ? used : wall;
}

/* What the task itself has used, this slice included. */
static uint64_t own_ns(const struct task *t)
{
    const struct task_set *set = t->host->tasks;

    return t->own_ns + slice_ns(set, uv_hrtime() - set->slice_start, processor_ns());
}

void slice_grace(struct task *t)
{
    if (!t->grace_ns)
        t->grace_ns = own_ns(t) + GRACE_NS;
}

/* What those that pay together have used, this slice included. */
static uint64_t used_ns(const struct task *t)
{
    const struct task_set *set = t->host->tasks;

    return t->payer->cpu_ns + slice_ns(set, uv_hrtime() - set->slice_start, processor_ns());
}

/* Keeps which line is cut. Never raises, and takes nothing of Lua's memory. */
static void cut_here(lua_State *L, struct task *t)
{
    lua_Debug ar;

    if (t->cut_at || !bind_script_line(L, &ar))
        return;
    if (asprintf(&t->cut_at, "%s:%d", ar.short_src, ar.currentline) < 0)
        t->cut_at = NULL;
}

/* Lua's allocator has refused for good what it was asked for. */
void slice_exhausted(void *arg)
{
    struct host *host = arg;
    struct task *t = host->tasks->running;
    lua_State *L = watchdog_running(host->watchdog);

    if (t && L)
        cut_here(L, t);
}

/* Why the task must end now; ERR_NONE: it need not. */
static enum err_code over_limit(lua_State *L, struct task *t, uint64_t used)
{
    struct host *host = t->host;
    bool stuck = (L != t->co || !lua_isyieldable(L)) && used - t->payer->cpu_ns > STUCK_NS;

    if (t->limits.cpu_ms && (used > t->limits.cpu_ms * 1000000 || (stuck && !host->loading)))
        return ERR_BUDGET;
    if (t->ended)
        return ERR_BUDGET; /* a closer that runs after the end; it could not be set aside */
    if (host->alloc.exhausted)
        return ERR_MEMORY;
    if (t->deadline && clock_ms_now(&host->clock) >= t->deadline)
        return ERR_DEADLINE;
    return ERR_NONE;
}

/* Whether the closers, too, must end. Others that are paid for by the same task take nothing of their time,
 * unless all of the budget is used up. */
static bool grace_over(const struct task *t, uint64_t used)
{
    const struct task *payer = t->payer;

    return own_ns(t) > t->grace_ns ||
           (payer->limits.cpu_ms && used > payer->limits.cpu_ms * 1000000 + GRACE_NS);
}

void slice_rest(lua_State *L)
{
    if (bind_host(L)->coverage)
        lua_sethook(L, slice_over, LUA_MASKLINE, 0);
    else
        lua_sethook(L, NULL, 0, 0);
}

/* Every instruction is looked at. */
static void slice_watch(lua_State *L)
{
    lua_sethook(L, slice_over, LUA_MASKCOUNT | (bind_host(L)->coverage ? LUA_MASKLINE : 0), 1);
}

void slice_cover(lua_State *L)
{
    struct host *host = bind_host(L);

    if (!host->coverage && (host->coverage = coverage_open()) != NULL)
        watchdog_lines(host->watchdog);
    slice_rest(L);
}

/* Runs on the coroutine that has kept the loop for a whole slice: the task's, or one that
 * the script resumed. */
void slice_over(lua_State *L, lua_Debug *ar)
{
    struct host *host = bind_host(L);
    struct task_set *set = host->tasks;
    struct task *t = set->running;
    uint64_t used;

    if (ar->event == LUA_HOOKLINE) {
        coverage_line(host->coverage, L, ar);
        return;
    }
    slice_rest(L);
    if (!t)
        return;
    used = used_ns(t);
    if (t->cut == ERR_DEADLINE && t->limits.cpu_ms && used > t->limits.cpu_ms * 1000000)
        t->cut = ERR_BUDGET; /* a deadline may end only a part of what the task does */
    if (!t->cut) {
        t->cut = over_limit(L, t, used);
        if (t->cut && t->ended) /* its closers have their time, however long the processor was another's */
            slice_grace(t);
    }
    if (t->cut && (!t->grace_ns || grace_over(t, used))) {
        bool may_yield = t->grace_ns && L == t->co && lua_isyieldable(L);

        if (may_yield && t->cut != ERR_DEADLINE) {
            /* Not raised: each pcall below would catch that, at a cost that grows with their number. */
            cut_here(L, t);
            t->stopped = true;
            lua_yield(L, 0);
            return;
        }
        if (may_yield && set->raised && uv_hrtime() - set->slice_start > RAISING_NS) {
            /* What a deadline cuts may be a part of the task, so it is unwound; very many pcalls take turns.
             */
            t->unwinding = true;
            lua_yield(L, 0);
            return;
        }
        set->raised = true;
        if (t->grace_ns) /* at every instruction, so that pcall in a loop does not survive */
            slice_watch(L);
        slice_grace(t);
        cut_here(L, t);
        watchdog_again(host->watchdog);
        task_raise_cut(L, t->cut);
    }
    if (L == t->co && lua_isyieldable(L) &&
        (!host->clock.is_virtual || uv_hrtime() - set->slice_start > VIRTUAL_NS))
        lua_yield(L, 0); /* back to the ready queue: others get their turn */
    else {
        collector_turn(&host->collector); /* the slice may last */
        collector_pay(&host->collector, L);
        watchdog_again(host->watchdog);
    }
}

void slice_begin(struct task *t)
{
    struct host *host = t->host;
    struct task_set *set = host->tasks;

    set->running = t;
    set->slice_used = host->alloc.used;
    host->alloc.exhausted = false;
    host->alloc.refusals = 0;
    if (t->limits.memory)
        host->alloc.limit =
            host->alloc.used + (t->limits.memory > t->payer->grown ? t->limits.memory - t->payer->grown : 0);
    set->slice_start = uv_hrtime();
    crash_note_begin(t->payer->asked);
    watchdog_begin(host->watchdog, t->co);
    set->raised = false;
    if (t->stopped || t->unwinding)
        slice_watch(t->co);
    t->unwinding = false;
}

/* What the slice that ends has used. */
static uint64_t slice_charge(struct task_set *set)
{
    uint64_t wall = uv_hrtime() - set->slice_start, now, used;

    if (wall < SHORT_NS) {
        set->since_ns += wall;
        return wall;
    }
    now = processor_ns();
    used = slice_ns(set, wall, now);
    set->known_ns = now;
    set->since_ns = 0;
    return used;
}

void slice_end(struct task *t)
{
    struct host *host = t->host;
    struct task_set *set = host->tasks;
    struct task *payer = t->payer;
    uint64_t used;

    watchdog_run(host->watchdog, NULL);
    crash_note_end();
    used = slice_charge(set);
    payer->cpu_ns += used;
    payer->turn_ns = used + (payer->turn == set->turn ? payer->turn_ns : 0);
    payer->turn = set->turn;
    t->own_ns += used;
    collector_pay(&host->collector, host->L); /* the task's garbage counts as its own until it is gone */
    if (host->alloc.used >= set->slice_used)
        payer->grown += host->alloc.used - set->slice_used;
    else if (payer->grown > set->slice_used - host->alloc.used)
        payer->grown -= set->slice_used - host->alloc.used;
    else
        payer->grown = 0;
    if (host->alloc.exhausted && !t->cut)
        t->cut = ERR_MEMORY;
    host->alloc.limit = 0;
    set->running = NULL;
}

static void leave_payer(struct task *t)
{
    if (!t->payer)
        return;
    *t->payee_link = t->next_payee;
    if (t->next_payee)
        t->next_payee->payee_link = t->payee_link;
    t->payer->paid_for--;
}

void slice_pay(struct task *t, struct task *payer)
{
    leave_payer(t);
    t->payer = payer;
    t->payee_link = &payer->payees;
    t->next_payee = payer->payees;
    if (t->next_payee)
        t->next_payee->payee_link = &t->next_payee;
    payer->payees = t;
    payer->paid_for++;
}

/* The paying task is gone: what is left pays for itself until it ends. */
void slice_orphan(struct task *t)
{
    leave_payer(t);
    while (t->payees)
        slice_pay(t->payees, t->payees);
}

struct task *slice_payer(lua_State *L, struct task *parent)
{
    struct task *payer = parent && (parent->limits.cpu_ms || parent->limits.memory) ? parent->payer : NULL;

    if (payer && payer->paid_for >= PAID_TASKS_MAX)
        luaL_error(L, "this script has %d tasks alive, and that is the most", (int)PAID_TASKS_MAX);
    return payer;
}
