---@meta
-- The plain data that the engine, the journal, the control API and the command line exchange. Annotations
-- only.
--
-- Everything here survives JSON unchanged: no functions, no metatables, no sparse lists. Times are wall
-- seconds (time.now), durations are seconds; a field marked `?` is absent, never null. Names are sorted or
-- in the order of the configuration file, so that two answers can be compared as text.

---@alias Seconds number a duration
---@alias Wall number seconds since 1970, UTC

---@class ErrData an error as data (the fields of Err that may leave the host; never a secret)
---@field code string one of the codes in host/err.h
---@field message string
---@field op? string
---@field target? string

---@class Release what runs (or ran) in an environment
---@field version? string the tag that released it, as written ("v1.4.0")
---@field commit? string full commit id
---@field digest? string "sha256:..."
---@field image? string repository and tag or digest, for people
---@field at Wall when the target reported it
---@field run? integer the run that put it there; absent when it was adopted
---@field adopted? boolean found running at first sight, not released by us

---@class Hold
---@field by string
---@field reason? string
---@field at Wall
---@field till? Wall when a freeze ends by itself
---@field frozen? boolean everything is held

---@alias RunState
---| "queued"      waits for its turn
---| "running"
---| "waiting"     waits for people: for their approval, or because they hold the environment; or for its window
---| "done"
---| "failed"      ended with an error
---| "superseded"  something newer took its place: before it started, or while it waited
---| "cancelled"   a person ended it
---| "diverged"    its recovery did not match the journal; an operator must decide
---| "quarantined" crashed the host three times

---@class RunProgress
---@field text string what is going on ("pushing layer 3 of 7")
---@field done? number
---@field total? number

---@class RunInfo one run, or one change still in the queue
---@field metrics? string[] what its metrics came to, in words
---@field id integer
---@field app string
---@field environment string
---@field policy string
---@field state RunState
---@field kind "change"|"rollback"|"release" what asked for it: the watched source, a rollback, a person's release
---@field key string what should be: a commit, a version, a digest
---@field title string one line for people ("v1.4.0 of 3f2a9c1", "rollback to v1.3.9")
---@field by? string who caused it: the pusher, the operator, a policy
---@field queued_at Wall
---@field started_at? Wall
---@field ended_at? Wall
---@field attempts integer how often it was started (recovery counts)
---@field step? string name of the step under way, or of the one that failed
---@field steps integer steps finished so far
---@field progress? RunProgress only while it runs in this host
---@field release? Release what it put in place
---@field error? ErrData of one that is queued to be tried again: what the try before it failed with
---@field tries? integer how often it was tried, after transient errors; absent: once. Each try is a run of its own
---@field first? integer the first of them

---@alias EnvironmentState
---| "new"         nothing decided yet
---| "idle"        as it should be
---| "queued"
---| "running"
---| "waiting"
---| "held"        a person (or a rollback) holds it
---| "failed"      attempted and failed; retry_at says when it tries again, if it does
---| "quarantined"
---| "unhealthy"   the target says so, or that nothing runs
---| "unreachable" the target cannot be asked
---| "changed"     something else was put there, not by us
---| "error"       its policy fails each time it is asked
---| "reverted"    what should run was taken back

---@class PartStatus: Release what one of several targets has
---@field name string
---@field kind string of its target
---@field since? Wall
---@field pending? boolean it is being put there, or did not prove itself
---@field canary? boolean the rest does not have it
---@field running? {digest?: string, state?: string, image?: string} what the target says
---@field healthy? boolean

---@class EnvironmentStatus
---@field name string
---@field policy string
---@field state EnvironmentState
---@field reason? string why it is in this state, in words
---@field host? string where people find it, from the configuration
---@field current? Release
---@field parts? PartStatus[] with several targets
---@field healthy? boolean what the target says now; absent: unknown, or it cannot be asked
---@field problems? Problem[] what is not as it should be, whatever the state
---@field hold? Hold
---@field run? RunInfo the run under way
---@field last? RunInfo the last run that ended
---@field queued integer changes waiting
---@field approval? Approval what the run under way waits for
---@field suspended? string which policy is not asked any more, and why
---@field retry_at? Wall

---@class AppStatus
---@field name string
---@field source string address without credentials
---@field branch string
---@field head? string commit the branch had at the last poll
---@field polled_at? Wall last poll that got an answer
---@field poll_error? ErrData why the last poll failed
---@field environments EnvironmentStatus[]

---@class HostStatus
---@field version string
---@field pid integer
---@field hostname string
---@field started_at Wall
---@field config string path of the configuration
---@field state_dir string
---@field scripts? string folder of policies; absent: the built-in ones
---@field loaded_at Wall when configuration and policies were last (re)loaded
---@field reload_error? string why what is saved is not live: the last reload was refused
---@field reload_faults? Fault[] all that is wrong with what is saved
---@field live boolean
---@field ready boolean
---@field reason? string
---@field stopping boolean
---@field standby? boolean another host acts, or none; this one knows nothing of the apps
---@field leader? LeaderStatus with `leader` in the configuration

---@class LeaderStatus who acts, as this host sees it
---@field holder? string identity of the one that acts; absent: none does now
---@field identity string this host's own
---@field generation? integer while this host acts
---@field since? Wall since when this host acts
---@field lease string namespace/name
---@field error? ErrData why the last attempt to get or keep it failed

---@class Status
---@field at Wall
---@field host? HostStatus absent when it was read from the state of a host that is down
---@field apps AppStatus[]
---@field freeze? Hold of everything

---@class HistoryQuery
---@field app? string
---@field environment? string
---@field limit? integer default 20, at most 1000

---@class History
---@field runs RunInfo[] newest first

---@alias Verdict
---| "accepted"  became a change
---| "unchanged" what should be is what is
---| "refused"   a candidate was refused
---| "held"      would be a change, but the environment is held; or counts as there although it is missing
---| "nothing"   the policy wants nothing, with its reason
---| "error"     the policy or what it asked failed

---@class Decision
---@field at Wall last time it was reached
---@field since? Wall first of the equal decisions in a row
---@field count? integer how many in a row
---@field app string
---@field environment string
---@field policy string
---@field verdict Verdict
---@field subject? string the candidate (a tag, a commit)
---@field reason string
---@field file? string where the policy decided
---@field line? integer
---@field traceback? string of an error that the policy itself made
---@field alarm? boolean a person should hear of it
---@field turn? integer the last question that it was said to

---@class Why
---@field app string
---@field environments EnvironmentStatus[] those that the policy filter leaves
---@field decisions Decision[] newest first, the current ones of every candidate before older ones
---@field reload_faults? Fault[] what is wrong with what is saved, as far as it is about this app

---@class LogEntry
---@field at Wall
---@field kind "run"|"step"|"output"|"note"
---@field level "debug"|"info"|"warn"|"error"
---@field text string one line, secrets already filtered
---@field step? string step it belongs to
---@field phase? "begin"|"end" of kind step and run
---@field recorded? boolean of kind step: answered from the journal
---@field elapsed? Seconds with phase end
---@field stream? "stdout"|"stderr" of kind output
---@field error? ErrData

---@class RunLog one piece of a run's log
---@field run RunInfo
---@field entries LogEntry[] bounded: at most 1000 at once
---@field next integer offset for the next call (opaque; 0 is the beginning)
---@field done boolean nothing will follow: the run ended and this is its last piece

---@class Fault one thing wrong in the configuration or a policy
---@field file string
---@field line? integer
---@field path? string "apps.web.branch"
---@field message string
---@field suggestion? string
---@field code? string why it could not be judged at all

---@class ReloadResult
---@field apps integer
---@field policies integer
---@field changed string[] what differs from before, in words

---@class PollResult
---@field apps string[] those that were polled
---@field changes RunInfo[] what became of it

---@class Health
---@field live boolean
---@field ready boolean
---@field reason? string
---@field standby? string why it does not act, in words, though all is well
---@field frozen? string who holds everything

---@class MetricSample
---@field labels table<string, string>
---@field value number

---@class Metric
---@field name string moontide_...
---@field type "counter"|"gauge"
---@field help string
---@field samples MetricSample[]

-- What the control API and the command line call. The running host answers with engine/init.lua; journal.open(dir,
-- {readonly=true}) answers the first four when the host is down (status then has no `host`). Failures are
-- `nil, err`; an unknown app, environment or run is "not_found", an act that the present state forbids is
-- "conflict" (hold what is held, unhold what is not, roll back what has no earlier release).

---@class StatusSource
---@field status fun(self): Status?, Err?
---@field history fun(self, query: HistoryQuery): History?, Err?
---@field why fun(self, app: string, policy: string?): Why?, Err? policy: a policy's or an environment's name
---@field run_log fun(self, id: integer, offset: integer): RunLog?, Err?

---@class Act
---@field app string
---@field environment? string rollback, retry: absent means the only one, or production; hold/unhold: absent means all
---@field by string
---@field what? string release: a version or a commit; approve/reject: the approval's id or its version
---@field versions? table<string, string> apply: by the names of an app's parts
---@field reason? string hold, reject

---@class Engine: StatusSource
---@field rollback fun(self, act: Act): RunInfo?, Err?
---@field release fun(self, act: Act): RunInfo?, Err?
---@field apply fun(self, act: Act): RunInfo?, Err? brings an environment to what should be there
---@field destroy fun(self, act: Act): RunInfo?, Err? takes an environment down
---@field retry fun(self, act: Act): RunInfo?, Err? tries again what failed; "conflict": nothing did
---@field cancel fun(self, act: {run: integer, by: string, reason?: string}): RunInfo?, Err? ends a run
---@field events fun(self, query: EventQuery): EventPage
---@field events_wait fun(self, seconds: Seconds) until something happens
---@field hold fun(self, act: Act): EnvironmentStatus[]?, Err? the environments that are now held
---@field unhold fun(self, act: Act): EnvironmentStatus[]?, Err?
---@field freeze fun(self, act: {by: string, reason?: string, seconds?: Seconds}): Hold?, Err? holds everything
---@field thaw fun(self, act: {by: string, reason?: string}): Hold?, Err? the freeze that ended; "conflict": none
---@field approve fun(self, act: Act): Approval?, Err? a vote; "conflict": nothing waits
---@field reject fun(self, act: Act): Approval?, Err?
---@field poll fun(self, app: string?): PollResult?, Err? nil: all apps
---@field reload fun(self, options?: {saved?: boolean}): ReloadResult?, Err? err.faults: why it was refused
---@field health fun(self): Health
---@field metrics fun(self): Metric[]
---@field elsewhere? fun(self): any of one that stands by: where the host that acts is
---@field config? Config
---@field repl_env? table what the prompt sees beside the API (engine, config, apps)
---@field run fun(self): true?, Err? polls and runs until stop, then closes; waits
---@field close fun(self) gives the state back, when neither run nor once will
---@field once fun(self): {ok: boolean, runs: RunInfo[]}?, Err? polls everything once and finishes what it starts
---@field stop fun(self, grace: Seconds) finishes or parks what is under way, at most that long; run() then returns

-- `require("engine").open(options)` gives an Engine or nil, err. run/once/reload of the command line call
-- it so: load() is called again for each reload, so that flags keep counting.

---@class EngineOptions
---@field config Config
---@field world? WorldOpeners else the real ones
---@field journal? Journal that is open already: the engine has no state folder, no lock and no files then
---@field edited? table<string, EditedPolicy> policies in place of those of their names
---@field folder? fun(place: Place): string where the files of a place's app are; in the state folder by default
---@field load fun(): Config?, Fault[]? loads the configuration again
---@field fresh? boolean a journal that is gone may be begun anew
---@field generation? integer at least this one: what a lease says
---@field host? string who this host is; the machine's name by default
---@field leader? fun(): LeaderStatus
---@field outrank? fun(generation: integer): integer? raises this host's generation to at least that, if it may
---@field fence? fun(): boolean whether this host may act now; asked before each effect
---@field on_event fun(event: Event)? shows what happens (people/console.lua); must not wait, must not raise

---@class Event something a person who watches the host wants to see
---@field at Wall
---@field event "host"|"poll"|"change"|"decision"|"run"|"step"|"output"|"progress"|"hold"|"reload"|"note"
---@field level "debug"|"info"|"warn"|"error"
---@field text string one line for people, secrets already filtered
---@field app? string
---@field environment? string
---@field run? integer
---@field step? string
---@field phase? "begin"|"end" of event run and step
---@field recorded? boolean of event step: answered from the journal
---@field state? RunState of event run
---@field elapsed? Seconds
---@field progress? RunProgress of event progress; never written to a log
---@field error? ErrData

-- The configuration after config.load: defaults filled in, durations in seconds, files as absolute paths.


---@class RegistryConfig
---@field host string "ghcr.io", "127.0.0.1:5000"
---@field username? string
---@field password? Secret
---@field ca? string
---@field plain_http boolean
---@field realm? string where a plain registry's token service is
---@field delete? boolean images of older releases are deleted there

---@class CredentialConfig
---@field host string
---@field username? string
---@field password? Secret
---@field ca? string

---@class ClusterConfig a Kubernetes cluster; kubernetes.open takes it
---@field name? string
---@field kubeconfig? string absent: the cluster this pod runs in, else $KUBECONFIG
---@field context? string
---@field namespace? string

---@class GithubConfig
---@field api string
---@field token? Secret

---@class BuilderConfig
---@field kind "auto"|"docker"|"podman"|"buildah"|"buildkit"|"job"
---@field socket? string
---@field address? string buildkit
---@field ca? string buildkit
---@field cert? string buildkit
---@field key? string buildkit
---@field cluster? string job
---@field namespace? string job
---@field image? string job
---@field login? string job: name of a Secret
---@field authorities? string job: name of a ConfigMap
---@field url? string job: where its pods reach this host
---@field service_account? string job
---@field privileged boolean job
---@field cpu string job
---@field memory string job
---@field keep Seconds job
---@field classic? boolean docker: without BuildKit; not in the reference
---@field network? string
---@field command? string[]
---@field env table<string, string>

---@class NotifyConfig
---@field name string
---@field kind "slack"|"webhook"
---@field url string|Secret
---@field token? Secret

---@class LeaderConfig
---@field cluster string
---@field namespace? string
---@field lease string
---@field identity? string
---@field duration Seconds
---@field renew Seconds
---@field retry Seconds

---@class SourceConfig
---@field url string
---@field github? string "owner/repository"

---@class BuildConfig
---@field args table<string, string>
---@field target? string
---@field timeout Seconds

---@class VerifyConfig exactly one of http, command, metric and job
---@field http? string
---@field command? string[]
---@field metric? MetricConfig
---@field job? string "cronjob/smoke", or a manifest in the repository
---@field cluster? string with job
---@field namespace? string with job
---@field status? integer http: default 200
---@field contains? string http: text in the body
---@field part? string the one part that it is for
---@field within Seconds time to prove it
---@field every Seconds between attempts

---@class TargetConfig
---@field kind string
---@field [string] any see stdlib/config/targets.lua and the extensions for the keys of each kind

---@class EnvironmentConfig
---@field name string
---@field app string name of the app
---@field policy string
---@field rollback string|false policy that reacts to a bad release
---@field accept string version policy: all major minor patch force range:... glob:... regexp:... staging version:...
---@field match_prerelease boolean a pre-release may only follow one with the same label
---@field watch_for Seconds how long after a release its health is watched
---@field host? string
---@field notify string[] names in Config.notify
---@field target TargetConfig nil with `targets`: ask targets.parts
---@field targets? {name: string, target: TargetConfig}[] its parts, when it has several
---@field part? string which of them this is: set in what targets.parts gives
---@field verify VerifyConfig[]
---@field ["protected"] boolean no order takes it down
---@field settings? table
---@field branches? string[] a template: each branch that matches one of the patterns has a place
---@field at_most integer of a template: places at once
---@field keep_for Seconds of a template: how long a place stays when its branch is gone
---@field template? string of a template and of its places: the template's name
---@field branch? string of such a place
---@field label? string of such a place: what its name has of the branch
---@field gone_at? Wall its branch is gone
---@field unknown_notify? string[] of a workload: names that the configuration does not have

---@class (partial) AppConfig
---@field name string "shop/web" when it was found while the host runs: only those names hold a slash.
---@field follows string "git", or the source of an extension. Only a git app has a repository, a branch and an image.
---@field source SourceConfig
---@field branch? string
---@field image? string repository without tag: "127.0.0.1:5101/team/web"
---@field dockerfile string inside the checkout
---@field context string inside the checkout
---@field build BuildConfig
---@field env? string[] names of variables that commands of its policies get
---@field lfs? boolean|string false: none; or the address of its server
---@field submodules? boolean
---@field found? boolean in a cluster, not in the file
---@field settings? table
---@field poll Seconds
---@field environments table<string, EnvironmentConfig>
---@field environment_list EnvironmentConfig[] in the order of the file
---@field templates? EnvironmentConfig[] environments with `branches`, which are none themselves

---@class (partial) Config
---@field file string absolute path
---@field dir string its folder: relative paths in it start there
---@field poll Seconds
---@field state string
---@field control? string path of the control socket
---@field control_group? string whose members may use it, too
---@field leader? LeaderConfig absent: this host is alone
---@field scripts? string folder of policies; absent: the built-in ones
---@field extensions? string folder of extensions
---@field watch boolean what is saved is loaded at once
---@field listen? {address: string, port: integer} absent: no listener
---@field api? {token: Secret, hosts: string[]} absent: the API for scripts is closed
---@field hosts string[] names by which listen is reached
---@field registries table<string, RegistryConfig>
---@field credentials table<string, CredentialConfig>
---@field clusters table<string, ClusterConfig> "default" need not be in it
---@field github GithubConfig
---@field builder BuilderConfig
---@field notify table<string, NotifyConfig>
---@field retention {runs: integer, days: integer, images: integer}
---@field apps table<string, AppConfig>
---@field app_list AppConfig[] in the order of the file
