// Package plot draws line charts as SVG for a page without network access: axes,
// a legend, a description for screen readers, and the points as data for a script
// that shows values under the pointer. Colours are CSS classes (s0 to s5), so the
// page's style sheet defines them for light and dark mode. Each series also has
// its own dash pattern, so colour is never the only distinction.
//
// Two chart libraries for Go were considered: go-analyze/charts v0.6.4 has only
// category axes (no logarithmic one) and writes colours inline; gonum/plot
// v0.17.0 has the scales, but neither classes nor descriptions.
package plot
