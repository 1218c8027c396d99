package demo

import (
	"fmt"
	"time"
)

// summary prints what the demo has shown.
func (r *run) summary(took time.Duration) {
	fmt.Fprintf(r.cfg.Out, "\n%s\n", r.story.style("1;32", fmt.Sprintf("Everything held, in %s.", took.Round(time.Second))))
	fmt.Fprintf(r.cfg.Out, `  call      %d participants, one through TURN only; recorded %d s, every track decodes to its end
  shell     %q typed through the tunnel, %q read from the desktop; recorded as received
  evidence  %d exports verify, %d of %d altered copies are refused with the place named
  files     %s
  look at   ann-video.png, desktop.png; play the .webm files
  check     bin/relay verify --key %s %s
`, len(r.call.participants), r.cfg.Seconds, command, proof, len(r.bags), r.found, r.tried, r.dir, r.file(keyFile), r.bags[0].path)
}
