// <twoparty-player call="ID">: a recording with its waveform, the agent's lane above the prospect's.
// Draws the API's peaks; click or arrow keys seek; the audio element streams with Range.
class TwopartyPlayer extends HTMLElement {
  connectedCallback() {
    if (this.dataset.ready) return;
    this.dataset.ready = "1";
    this.load().catch(() => { this.textContent = "The recording cannot be loaded."; });
  }

  async load() {
    const base = `/api/v1/recordings/${encodeURIComponent(this.getAttribute("call"))}`;
    const answer = await fetch(`${base}/peaks?points=600`);
    if (!answer.ok) throw new Error(answer.status);
    const drawn = await answer.json();
    const seconds = drawn.samples / drawn.sample_rate;
    const lanes = drawn.channels === 2 ? ["agent", "prospect"] : ["agent"];
    const height = 84, width = 1200;
    const paths = lanes.map((name, lane) => {
      const mid = lane * height + height / 2, { min, max } = drawn.peaks[lane];
      const step = width / Math.max(1, max.length), scale = (height / 2 - 8) / 128;
      const bars = max.map((top, i) => {
        const y = mid - Math.max(top, 0) * scale - 0.5, bottom = mid - Math.min(min[i], 0) * scale + 0.5;
        return `M${(i * step).toFixed(1)} ${y.toFixed(1)}h${Math.max(step * 0.8, 0.6).toFixed(1)}V${bottom.toFixed(1)}h-${Math.max(step * 0.8, 0.6).toFixed(1)}z`;
      }).join("");
      const label = name === "agent" ? "Agent" : "Prospect";
      return `<line class="mid" x1="0" x2="${width}" y1="${mid}" y2="${mid}"/><path class="${name}" d="${bars}"/>` +
        `<text class="lane" x="6" y="${lane * height + 14}">${label}</text>`;
    }).join("");
    this.innerHTML = `
      <svg viewBox="0 0 ${width} ${height * lanes.length}" preserveAspectRatio="none" tabindex="0" role="slider"
        aria-label="Position in the recording" aria-valuemin="0" aria-valuemax="${seconds.toFixed(1)}" aria-valuenow="0">
        ${paths}<line class="head" x1="0" x2="0" y1="0" y2="${height * lanes.length}"/></svg>
      <div class="controls"><audio controls preload="metadata" src="${base}/audio"></audio>
        <label>Speed <select aria-label="Speed"><option>0.5</option><option>0.75</option><option selected>1</option>
        <option>1.25</option><option>1.5</option><option>2</option></select></label>
        <a href="${base}/audio?download=true" download>Download</a></div>`;
    const svg = this.querySelector("svg"), audio = this.querySelector("audio"), head = this.querySelector(".head");
    const length = () => Number.isFinite(audio.duration) ? audio.duration : seconds;
    const show = () => {
      const x = length() ? audio.currentTime / length() * width : 0;
      head.setAttribute("x1", x); head.setAttribute("x2", x);
      svg.setAttribute("aria-valuenow", audio.currentTime.toFixed(1));
      svg.setAttribute("aria-valuetext", `${audio.currentTime.toFixed(1)} of ${length().toFixed(1)} seconds`);
    };
    for (const event of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(event, show);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      audio.currentTime = Math.max(0, (event.clientX - box.left) / box.width * length());
    });
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -5, ArrowRight: 5, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === " ") { if (audio.paused) audio.play(); else audio.pause(); event.preventDefault(); }
      if (by === undefined) return;
      audio.currentTime = Math.min(length(), Math.max(0, audio.currentTime + by));
      event.preventDefault();
    });
    this.querySelector("select").addEventListener("change", (event) => { audio.playbackRate = Number(event.target.value); });
  }
}
if (!customElements.get("twoparty-player")) customElements.define("twoparty-player", TwopartyPlayer);
