package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// A release as helm lists it, with the context that its label names.
type existing struct {
	Name, Namespace, Revision, Status, Chart, context string
}

type decision struct {
	text     string
	priority int
	log      func(string, ...any)
}

type command struct {
	what     string
	args     []string
	priority int
	release  *release
	after    [][]string
}

type plan struct {
	decisions []decision
	commands  []command
}

func (p *plan) decide(log func(string, ...any), priority int, format string, args ...any) {
	p.decisions = append(p.decisions, decision{fmt.Sprintf(format, args...), priority, log})
}

func (s *state) currentState() map[string]*existing {
	info("Acquiring current Helm state from cluster")
	found := map[string]*existing{}
	for name, n := range s.Namespace {
		if n.unused {
			continue
		}
		out, err := retry("Listing all existing releases in [ "+name+" ] namespace",
			"helm", "list", "--max", "0", "--output", "json", "-n", name)
		if err != nil {
			fatal("%s", err)
		}
		var list []*existing
		if err := json.Unmarshal([]byte(out.stdout), &list); err != nil {
			fatal("failed to unmarshal Helm CLI output: %s", err)
		}
		for _, r := range list {
			r.context = s.contextOf(r)
			found[r.Name+"-"+r.Namespace] = r
		}
	}
	return found
}

func (s *state) contextOf(r *existing) string {
	if option.context != "" {
		info("Overwrote Helmsman context for release [ %s ] to %s", r.Name, option.context)
		return option.context
	}
	out := run("kubectl", "get", s.Settings.StorageBackend, "-n", r.Namespace, "-l", "owner=helm,name="+r.Name,
		"-o", "jsonpath={.items[-1].metadata.labels.HELMSMAN_CONTEXT}")
	if out.failed != nil {
		fatal("%s", strings.TrimSpace(out.stderr))
	}
	if out.stdout == "" {
		return "default"
	}
	return strings.TrimSpace(out.stdout)
}

func (r *release) args(action string) []string {
	args := []string{r.Name, r.Chart, "--namespace", r.Namespace}
	if r.Version != "latest" {
		args = append(args, "--version", r.Version)
	}
	for _, file := range r.values() {
		args = append(args, "--values", file)
	}
	for flag, words := range map[string]map[string]string{
		"--set": r.Set, "--set-string": r.SetString, "--set-file": r.SetFile,
	} {
		keys := make([]string, 0, len(words))
		for key := range words {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			args = append(args, flag, key+"="+strings.ReplaceAll(words[key], ",", `\,`))
		}
	}
	if action == "template" {
		return append([]string{"template"}, append(args, "--skip-tests", "--no-hooks")...)
	}
	return append(append([]string{"upgrade", "--install"}, args...), r.common()...)
}

func (r *release) common() []string {
	var args []string
	if r.NoHooks {
		args = append(args, "--no-hooks")
	}
	if r.Wait {
		args = append(args, "--wait")
	}
	if r.Timeout != 0 {
		args = append(args, "--timeout", strconv.Itoa(r.Timeout)+"s")
	}
	if r.MaxHistory != 0 {
		args = append(args, "--history-max", strconv.Itoa(r.MaxHistory))
	}
	if option.dryRun {
		args = append(args, "--dry-run", "--debug")
	}
	return append(args, r.HelmFlags...)
}

func (r *release) put(p *plan, what string) {
	c := command{what: what, args: r.args("upgrade"), priority: r.Priority, release: r}
	if r.Test && !option.dryRun {
		c.after = [][]string{{"test", "--namespace", r.Namespace, r.Name}}
	}
	p.commands = append(p.commands, c)
}

func (s *state) uninstall(p *plan, r *release) {
	priority := r.Priority
	if s.Settings.ReverseDelete {
		priority = -priority
	}
	args := []string{"uninstall", "--namespace", r.Namespace, r.Name}
	if option.dryRun {
		args = append(args, "--dry-run", "--debug")
	}
	what := fmt.Sprintf("Delete release [ %s ] in namespace [ %s ]", r.Name, r.Namespace)
	p.commands = append(p.commands, command{what: what, args: args, priority: priority, release: r})
}

func (s *state) makePlan(now map[string]*existing) *plan {
	p := &plan{}
	names := append([]string{}, s.names...)
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] }) // Go's maps have no order either
	for _, name := range names {
		r := s.Apps[name]
		if err := s.decide(p, r, now, option.retries); err != nil {
			fatal("%s", err)
		}
	}
	return p
}

func (s *state) decide(p *plan, r *release, now map[string]*existing, retries int) error {
	prefix := fmt.Sprintf("Release [ %s ] in namespace [ %s ]", r.Name, r.Namespace)
	if r.ignored {
		if !option.skipIgnored {
			p.decide(info, r.Priority, "%s ignored", prefix)
		}
		return nil
	}
	is := now[r.key()]
	ours := is != nil && is.context == s.Context
	switch {
	case ours && (r.Protected || s.Namespace[r.Namespace] != nil && s.Namespace[r.Namespace].Protected):
		p.decide(info, r.Priority, "%s is PROTECTED. Operations are not allowed on this release until protection is removed.", prefix)
		return nil
	case option.destroy && ours:
		p.decide(warning, r.Priority, "%s will be DELETED (destroy flag enabled).", prefix)
		s.uninstall(p, r)
		return nil
	case option.destroy:
		return nil
	case !r.Enabled && ours:
		p.decide(warning, r.Priority, "%s is desired to be DELETED.", prefix)
		s.uninstall(p, r)
		return nil
	case !r.Enabled:
		p.decide(info, r.Priority, "%sis disabled", prefix)
		return nil
	case is == nil:
		p.decide(notice, r.Priority, "%s will be installed using version [ %s ]", prefix, r.Version)
		r.put(p, fmt.Sprintf("Install release [ %s ] version [ %s ] in namespace [ %s ]", r.Name, r.Version, r.Namespace))
		return nil
	case !ours:
		return fmt.Errorf("%s already exists but is not managed by the current context. Applying changes will likely cause"+
			" conflicts. Change the release name or namespace.", prefix)
	}
	upgrade := fmt.Sprintf("Upgrade release [ %s ] to version [ %s ] in namespace [ %s ]", r.Name, r.Version, r.Namespace)
	switch is.Status {
	case "failed":
		p.decide(notice, r.Priority, "%s is in FAILED state. Upgrade is scheduled!", prefix)
		r.put(p, upgrade)
	case "pending-install", "pending-upgrade", "pending-rollback", "uninstalling":
		if s.Settings.SkipPending {
			p.decide(info, r.Priority, "%sis in a pending state and will be ignored", prefix)
			return nil
		}
		if retries == 0 {
			return fmt.Errorf("%s is in a pending (install/upgrade/rollback or uninstalling) state. This means application is"+
				" being operated on outside of this Helmsman invocation's scope.Exiting, as this may cause issues when"+
				" continuing...", prefix)
		}
		retries--
		time.Sleep(time.Duration(4<<retries) * time.Second)
		return s.decide(p, r, now, retries) // of what was seen at first: so does the real one
	case "uninstalled":
		p.decide(notice, r.Priority, "Release [ %s ] was deleted and is desired to be rolled back to namespace [ %s ]", r.Name, r.Namespace)
		back := append([]string{"rollback", r.Name, is.Revision, "--namespace", r.Namespace}, r.common()...)
		p.commands = append(p.commands, command{
			what: "Rolling back " + upgrade[len("Upgrade "):], args: back, priority: r.Priority, release: r,
		})
		r.put(p, upgrade)
	default:
		return s.inspect(p, r, is)
	}
	return nil
}

var chartName = regexp.MustCompile(`^(.*?)-(v?[0-9]+\.[0-9]+\.[0-9]+.*)$`)

func (s *state) inspect(p *plan, r *release, is *existing) error {
	chart := s.charts[r.Chart+"\x00"+r.Version]
	if chart == nil {
		return nil
	}
	r.Version = chart.Version
	upgrade := fmt.Sprintf("Upgrade release [ %s ] to version [ %s ] in namespace [ %s ]", r.Name, r.Version, r.Namespace)
	parts := chartName.FindStringSubmatch(is.Chart)
	if option.alwaysUpgrade || parts == nil || parts[1] != chart.Name || parts[2] != chart.Version {
		r.put(p, upgrade)
		p.decide(notice, r.Priority, "Release [ %s ] will be upgraded", r.Name)
		return nil
	}
	different, err := r.differs()
	if err != nil {
		return err
	}
	if different {
		r.put(p, upgrade)
		p.decide(notice, r.Priority, "Release [ %s ] will be updated", r.Name)
		return nil
	}
	p.decide(info, r.Priority, "Release [ %s ] installed and up-to-date", r.Name)
	return nil
}

// Plays helm's diff plugin: what the release holds against what the chart gives now.
func (r *release) differsFromManifest() (bool, error) {
	made, held := run("helm", r.args("template")...), run("helm", "get", "manifest", r.Name, "--namespace", r.Namespace)
	for _, out := range []output{made, held} {
		if out.failed != nil {
			return false, fmt.Errorf("command failed: %s", strings.TrimSpace(out.stderr))
		}
	}
	return documents(made.stdout) != documents(held.stdout), nil
}

// The documents of a stream in one order and one way of writing.
func documents(text string) string {
	var list []string
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var document any
		if decoder.Decode(&document) != nil {
			break
		}
		if document != nil {
			written, _ := yaml.Marshal(document)
			list = append(list, string(written))
		}
	}
	sort.Strings(list)
	return strings.Join(list, "---\n")
}

func (r *release) differs() (bool, error) {
	if diffPlugin() {
		return r.differsFromManifest()
	}
	made := run("helm", r.args("template")...)
	if made.failed != nil {
		return false, fmt.Errorf("command failed: %s", strings.TrimSpace(made.stderr))
	}
	out := start(made.stdout, "kubectl", "diff", "--namespace", r.Namespace, "-f", "-")
	if out.code > 1 {
		return false, fmt.Errorf("command failed: %s", strings.TrimSpace(out.stderr))
	}
	if out.code == 1 && option.showDiff {
		fmt.Println(out.stdout)
	}
	return out.code == 1, nil
}

var secretName = regexp.MustCompile(`^sh\.helm\.release\.v\d+\.(.*)\.v\d+$`)

func (s *state) cleanUntracked(now map[string]*existing, p *plan) {
	info("Checking if any Helmsman managed releases are no longer tracked by your desired state ...")
	count := 0
	for name, n := range s.Namespace {
		if n.unused {
			continue
		}
		out, err := retry("Getting Helmsman-managed releases from namespace [ "+name+" ]", "kubectl", "get",
			s.Settings.StorageBackend, "-n", name, "-l", "MANAGED-BY=HELMSMAN,HELMSMAN_CONTEXT="+s.Context,
			"-o", "custom-columns=NAME:.metadata.name", "--no-headers")
		if err != nil {
			fatal("%s", err)
		}
		seen := map[string]bool{}
		for _, secret := range strings.Fields(out.stdout) {
			parts := secretName.FindStringSubmatch(secret)
			if parts == nil || seen[parts[1]] || s.tracks(parts[1], name) || now[parts[1]+"-"+name] == nil {
				continue
			}
			seen[parts[1]] = true
			count++
			p.decide(warning, -1000, "Untracked release [ %s ] found and it will be deleted", parts[1])
			args := []string{"uninstall", parts[1], "--namespace", name}
			if option.dryRun {
				args = append(args, "--dry-run", "--debug")
			}
			p.commands = append(p.commands, command{
				what: fmt.Sprintf("Delete untracked release [ %s ] in namespace [ %s ]", parts[1], name), args: args, priority: -800,
			})
		}
	}
	if count == 0 {
		info("No untracked releases found")
	}
}

func (s *state) tracks(name, in string) bool {
	if some := len(option.target) + len(option.group); some > 0 {
		return true // only what was asked for is looked at, and that is tracked
	}
	for _, r := range s.Apps {
		if r.Name == name && r.Namespace == in {
			return true
		}
	}
	return false
}

func (p *plan) sort() {
	sort.SliceStable(p.commands, func(i, j int) bool { return p.commands[i].priority < p.commands[j].priority })
	sort.SliceStable(p.decisions, func(i, j int) bool { return p.decisions[i].priority < p.decisions[j].priority })
}

func (p *plan) print() {
	notice("-------- PLAN starts here --------------")
	for _, d := range p.decisions {
		d.log("%s -- priority: %d", d.text, d.priority)
	}
	notice("-------- PLAN ends here --------------")
}

// Carries the plan out, one priority after the other. What fails in one keeps the later ones from starting.
func (p *plan) execute(s *state) {
	if len(p.commands) == 0 {
		info("Nothing to execute")
		return
	}
	info("Executing plan... ")
	for i := 0; i < len(p.commands); {
		failed, priority := false, p.commands[i].priority
		for ; i < len(p.commands) && p.commands[i].priority == priority; i++ {
			if err := p.commands[i].run(s); err != nil {
				failed = true
				problem("%s", err)
			}
		}
		if failed {
			fatal("Plan execution failed")
		}
	}
	info("Plan applied")
}

func (c *command) run(s *state) error {
	if c.release != nil && !option.dryRun && !option.destroy && c.release.Enabled {
		defer func() {
			out := run("kubectl", "label", "--overwrite", s.Settings.StorageBackend, "-n", c.release.Namespace,
				"-l", "owner=helm,name="+c.release.Name, "MANAGED-BY=HELMSMAN", "NAMESPACE="+c.release.Namespace,
				"HELMSMAN_CONTEXT="+s.Context)
			if out.failed != nil {
				fatal("%s", strings.TrimSpace(out.stderr))
			}
		}()
	}
	for i, args := range append([][]string{c.args}, c.after...) {
		what := c.what
		if i > 0 {
			what = fmt.Sprintf("Running tests for release [ %s ] in namespace [ %s ]", c.release.Name, c.release.Namespace)
		}
		notice("%s", what)
		out := run("helm", args...)
		if out.failed != nil {
			words := out.stderr
			if !option.verbose {
				words, _, _ = strings.Cut(words, "---")
			}
			words = strings.TrimSpace(words)
			if c.release != nil {
				return fmt.Errorf("command for release [%s] returned [ %d ] exit code and error message [ %s ]", c.release.Name, out.code, words)
			}
			return fmt.Errorf("%s returned [ %d ] exit code and error message [ %s ]", what, out.code, words)
		}
		notice("%s", strings.TrimRight(out.stdout, "\n"))
		notice("Finished: %s", what)
	}
	return nil
}
