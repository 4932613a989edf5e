/* Slices: what a script may use while it runs, measured around each resume and paid by the task that was
 * limited.
 *
 * Limits are cut in a way that pcall does not escape: the hook stays armed at every instruction. */
#include <string.h>
#include <time.h>
#include "bind.h"
#include "host.h"
#include "task_inside.h"
#include "watchdog.h"

/* How long a limited script may hold the loop where it cannot be set aside: in a sort comparison, a gsub
 * callback, a coroutine of its own. */
#define STUCK_MS 100

/* What a slice pays at most for the time before it is found long. The wall's clock is cheap, but it also
 * counts while other processes have the processor; asking the kernel for processor time costs a system call,
 * so that is for slices that the watchdog complained of. */
#define UNSEEN_MAX_NS (100 * UINT64_C(1000000))

/* How many tasks a limited script may have alive at once. */
#define PAID_TASKS_MAX 1000u

/* ---- the slice ---- */

static uint64_t processor_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void slice_mark(struct task_set *set)
{
    if (set->slice_mark)
        return;
    set->slice_unseen = uv_hrtime() - set->slice_start;
    set->slice_mark = processor_ns();
}

/* What the slice has used so far since it was found long. */
static uint64_t slice_seen(const struct task_set *set)
{
    return set->slice_mark ? processor_ns() - set->slice_mark : 0;
}

static uint64_t slice_ns(const struct task_set *set)
{
    uint64_t unseen = set->slice_mark ? set->slice_unseen : uv_hrtime() - set->slice_start;

    return (unseen < UNSEEN_MAX_NS ? unseen : UNSEEN_MAX_NS) + slice_seen(set);
}

/* Runs on the coroutine that has kept the loop for a whole slice: the task's, or one that
 * the script resumed. */
void slice_over(lua_State *L, lua_Debug *ar)
{
    struct host *host = bind_host(L);
    struct task_set *set = host->tasks;
    struct task *t = set->running;

    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    if (!t)
        return;
    slice_mark(set);
    if (!t->cut && t->limits.cpu_ms && t->payer->cpu_ns + slice_ns(set) > t->limits.cpu_ms * 1000000)
        t->cut = ERR_BUDGET;
    if (t->ended && !t->cut)
        t->cut = ERR_BUDGET; /* a closer that runs after the end; nobody could set it aside */
    if (!t->cut && t->limits.cpu_ms && !host->loading && (L != t->co || !lua_isyieldable(L)) &&
        slice_seen(set) > STUCK_MS * UINT64_C(1000000))
        t->cut = ERR_BUDGET; /* it cannot be set aside, and everybody waits */
    if (!t->cut && host->alloc.exhausted)
        t->cut = ERR_MEMORY;
    if (!t->cut && t->deadline) {
        uv_update_time(&host->loop);
        if (uv_now(&host->loop) >= t->deadline)
            t->cut = ERR_DEADLINE;
    }
    if (t->cut) {
        lua_sethook(L, slice_over, LUA_MASKCOUNT, 1); /* so that pcall in a loop does not survive */
        task_raise_cut(L, t->cut);
    }
    if (L == t->co && lua_isyieldable(L))
        lua_yield(L, 0); /* back to the ready queue: others get their turn */
    else
        lua_sethook(L, slice_over, LUA_MASKCOUNT, 1000);
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
    set->slice_mark = 0;
    watchdog_run(host->watchdog, t->co);
}

void slice_end(struct task *t)
{
    struct host *host = t->host;
    struct task_set *set = host->tasks;
    struct task *payer = t->payer;

    watchdog_run(host->watchdog, NULL);
    payer->cpu_ns += slice_ns(set);
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

/* Whoever paid is gone: what is left pays for itself in the little time until it ends. */
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
