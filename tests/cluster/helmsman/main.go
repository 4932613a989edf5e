// A stand-in for helmsman, for tests where the real program cannot be had.
//
// It knows the flags, the desired state files and the decisions of helmsman 4, and drives the real helm and kubectl
// as that does. Its words in the log are those that Moontide reads; README.md beside it tells what it leaves out.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const version = "stand-in"

type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// What the command line says. Flags that change nothing here are accepted all the same: Go's flag package ends the
// program with status 2 at one that it does not know, and so would the real one.
var option struct {
	files, envFiles                              list
	target, group, notTarget, notGroup           list
	spec, kubeconfig, nsOverride, context        string
	apply, destroy, dryRun                       bool
	debug, verbose, noBanner, noColor, noFancy   bool
	noNs, skipValidation, keepUntracked          bool
	detailedExit, noEnvSubst, alwaysUpgrade      bool
	noUpdate, showDiff, skipPending, skipIgnored bool
	forceUpgrades, updateDeps, showVersion       bool
	migrateContext                               bool
	retries, parallel                            int
	parallelFiles                                bool
}

func readFlags() {
	flag.Var(&option.files, "f", "desired state file, more than once to merge several")
	flag.Var(&option.envFiles, "e", "file of environment variables")
	flag.Var(&option.target, "target", "only this app")
	flag.Var(&option.group, "group", "only this group of apps")
	flag.Var(&option.notTarget, "exclude-target", "not this app")
	flag.Var(&option.notGroup, "exclude-group", "not this group of apps")
	flag.StringVar(&option.spec, "spec", "", "file that names desired state files")
	flag.StringVar(&option.kubeconfig, "kubeconfig", "", "kubeconfig")
	flag.StringVar(&option.nsOverride, "ns-override", "", "namespace instead of all others")
	flag.StringVar(&option.context, "context-override", "", "context that every release is taken to have")
	flag.BoolVar(&option.apply, "apply", false, "apply the plan")
	flag.BoolVar(&option.destroy, "destroy", false, "delete all releases")
	flag.BoolVar(&option.dryRun, "dry-run", false, "apply with helm's dry-run")
	flag.BoolVar(&option.debug, "debug", false, "show commands")
	flag.BoolVar(&option.verbose, "verbose", false, "say more")
	flag.BoolVar(&option.noBanner, "no-banner", false, "no banner")
	flag.BoolVar(&option.noColor, "no-color", false, "no colors")
	flag.BoolVar(&option.noFancy, "no-fancy", false, "no banner and no colors")
	flag.BoolVar(&option.noNs, "no-ns", false, "create no namespaces")
	flag.BoolVar(&option.skipValidation, "skip-validation", false, "do not validate")
	flag.BoolVar(&option.keepUntracked, "keep-untracked-releases", false, "keep releases that no file names any more")
	flag.BoolVar(&option.detailedExit, "detailed-exit-code", false, "0 no changes, 1 error, 2 changes")
	flag.BoolVar(&option.noEnvSubst, "no-env-subst", false, "no environment variables in files")
	flag.BoolVar(&option.alwaysUpgrade, "always-upgrade", false, "upgrade without a difference, too")
	flag.BoolVar(&option.noUpdate, "no-update", false, "do not update repositories")
	flag.BoolVar(&option.showDiff, "show-diff", false, "show differences")
	flag.BoolVar(&option.skipPending, "skip-pending", false, "leave pending releases alone")
	flag.BoolVar(&option.skipIgnored, "skip-ignored", false, "do not list ignored apps")
	flag.BoolVar(&option.forceUpgrades, "force-upgrades", false, "replace resources")
	flag.BoolVar(&option.updateDeps, "update-deps", false, "update dependencies of local charts")
	flag.BoolVar(&option.migrateContext, "migrate-context", false, "label releases anew")
	flag.BoolVar(&option.showVersion, "v", false, "version")
	flag.IntVar(&option.retries, "pending-max-retries", 0, "how often to wait for a pending release")
	flag.BoolVar(&option.parallelFiles, "parallel-files", false, "each file by itself, at once")
	flag.IntVar(&option.parallel, "p", 1, "releases at once")
	for _, name := range []string{
		"subst-env-values", "no-recursive-env-expand", "no-ssm-subst", "subst-ssm-values", "no-cleanup",
		"replace-on-rename", "kubectl-diff", "check-for-chart-updates", "download-charts", "show-secrets", "verify",
	} {
		flag.Bool(name, false, "accepted; means nothing here")
	}
	flag.Int("diff-context", -1, "accepted; means nothing here")
	flag.Parse()
}

func checkFlags() {
	if option.showVersion {
		fmt.Println("Helmsman version: " + version)
		os.Exit(0)
	}
	if !option.noFancy && !option.noBanner {
		fmt.Println("helmsman version: " + version)
	}
	for _, wrong := range []struct {
		is   bool
		text string
	}{
		{option.dryRun && option.apply, "--apply and --dry-run can't be used together."},
		{option.destroy && option.apply, "--destroy and --apply can't be used together."},
		{len(option.target) > 0 && len(option.group) > 0, "--target and --group can't be used together."},
		{len(option.files) > 0 && option.spec != "", "-f and -spec can't be used together."},
		{option.spec != "", "this stand-in reads no -spec"},
		{option.migrateContext || option.nsOverride != "", "this stand-in has no -migrate-context and no -ns-override"},
	} {
		if wrong.is {
			fatal("%s", wrong.text)
		}
	}
	if len(option.files) == 0 {
		info("No desired state files provided.")
		os.Exit(0)
	}
	if option.kubeconfig != "" {
		os.Setenv("KUBECONFIG", option.kubeconfig)
	}
	for _, tool := range []string{"kubectl", "helm"} {
		if !exists(tool) {
			fatal("%s is not installed/configured correctly. Aborting!", tool)
		}
	}
	if !diffPlugin() {
		warning("helm diff not found, using kubectl diff")
	}
}

// Whether helm's diff plugin is there. It cannot be had here either: we play it when we are told to.
func diffPlugin() bool { return os.Getenv("HELMSMAN_STAND_IN_DIFF") != "" }

// Runs this program once for each file, and gives the status of the first that failed.
func eachFile() int {
	self, err := os.Executable()
	if err != nil {
		fatal("%s", err)
	}
	var flags []string
	flag.Visit(func(f *flag.Flag) {
		if several, ok := f.Value.(*list); ok && f.Name != "f" {
			for _, value := range *several {
				flags = append(flags, "-"+f.Name+"="+value)
			}
		} else if f.Name != "f" && f.Name != "parallel-files" {
			flags = append(flags, "-"+f.Name+"="+f.Value.String())
		}
	})
	statuses := make(chan int, len(option.files))
	places := make(chan bool, max(1, option.parallel))
	for _, file := range option.files {
		go func() {
			places <- true
			command := exec.Command(self, append([]string{"-f=" + file}, flags...)...)
			command.Stdout, command.Stderr = os.Stdout, os.Stderr
			command.Run()
			<-places
			statuses <- command.ProcessState.ExitCode()
		}()
	}
	status := 0
	for range option.files {
		if each := <-statuses; status == 0 {
			status = each
		}
	}
	return status
}

func main() {
	readFlags()
	if option.parallelFiles && len(option.files) > 1 {
		os.Exit(eachFile())
	}
	checkFlags()
	s := readState()
	if len(option.target)+len(option.group) > 0 && s.selected == 0 {
		which := "-target"
		if len(option.group) > 0 {
			which = "-group"
		}
		info("No apps defined with %s flag were found, exiting", which)
		os.Exit(0)
	}
	info("Setting up kubectl")
	if s.Settings.KubeContext != "" {
		if out := run("kubectl", "config", "use-context", s.Settings.KubeContext); out.failed != nil {
			fatal("missing information to create context [ %s ] you are either missing PASSWORD, USERNAME or CLUSTERURI"+
				" in the Settings section of your desired state file.", s.Settings.KubeContext)
		}
	}
	info("Setting up helm")
	if err := s.addRepos(); err != nil && !option.destroy {
		fatal("%s", err)
	}
	if (option.apply || option.dryRun || option.destroy) && !option.noNs {
		info("Setting up namespaces")
		s.addNamespaces()
	}
	info("Getting chart information")
	err := s.chartsInfo()
	switch {
	case option.skipValidation:
		info("Skipping charts' validation.")
	case err != nil:
		fatal("%s", err)
	default:
		info("Charts validated.")
	}
	if option.destroy {
		warning("Destroy flag is enabled. Your releases will be deleted!")
	}
	info("Preparing plan")
	now := s.currentState()
	p := s.makePlan(now)
	if !option.keepUntracked {
		s.cleanUntracked(now, p)
	}
	p.sort()
	p.print()
	if option.apply || option.dryRun || option.destroy {
		p.execute(s)
	}
	if option.detailedExit && len(p.commands) > 0 {
		os.Exit(2)
	}
}
