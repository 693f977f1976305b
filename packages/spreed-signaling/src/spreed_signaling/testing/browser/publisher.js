// SPDX-License-Identifier: MIT
// A participant who publishes a microphone the way Talk's web client does
// (nextcloud/spreed, src/utils/webrtc/simplewebrtc/peer.js): the microphone with the
// browser's own audio processing, a data channel, the offer as the browser made it,
// candidates one by one; muted means that the sender has no track.
"use strict";

class Publisher {
    constructor() {
        this.waiting = new Map();
        this.candidates = [];
        this.number = 0;
    }

    // Signaling.

    async join(url, auth, room, sessionid, options) {
        this.options = options;
        this.socket = new WebSocket(url);
        this.socket.onmessage = (event) => this.receive(JSON.parse(event.data));
        await new Promise((resolve, reject) => {
            this.socket.onopen = resolve;
            this.socket.onerror = () => reject(new Error("no connection"));
            this.socket.onclose = () => this.fail("the connection was closed");
        });
        const hello = await this.request("hello", { version: "1.0", auth });
        this.session = hello.hello.sessionid;
        await this.request("room", { roomid: room, sessionid });
    }

    request(type, body) {
        const id = this.send(type, body);
        return new Promise((resolve, reject) =>
            this.waiting.set(id, { resolve, reject }));
    }

    send(type, body) {
        const id = String(++this.number);
        this.socket.send(JSON.stringify({ id, type, [type]: body }));
        return id;
    }

    signal(type, payload) {
        const data = { to: this.session, sid: this.sid, roomType: "video", type, payload };
        const recipient = { type: "session", sessionid: this.session };
        return this.send("message", { recipient, data });
    }

    receive(message) {
        if (message.type === "error") {
            // An offer that is refused has the offer's id.
            const waiting = this.waiting.get(message.id) ?? this.waiting.get("answer");
            waiting?.reject(new Error(message.error.code));
        } else if (message.type === "bye") {
            this.fail(message.bye?.reason ?? "bye");
        } else if (message.type === "message") {
            this.receiveSignal(message.message.data);
        } else if (this.waiting.has(message.id)) {
            this.waiting.get(message.id).resolve(message);
        }
    }

    receiveSignal(data) {
        if (data.type === "answer" && data.sid === this.sid) {
            this.waiting.get("answer")?.resolve(data.payload);
        } else if (data.type === "candidate" && data.sid === this.sid) {
            this.candidates.push(data.payload.candidate);
            this.addCandidates();
        }
    }

    fail(reason) {
        for (const waiting of this.waiting.values())
            waiting.reject(new Error(reason));
    }

    // Media.

    async openMicrophone() {
        const on = this.options.processing;
        // Talk asks for `audio: true`, which means all of them.
        const audio = on || { echoCancellation: on, noiseSuppression: on, autoGainControl: on };
        this.stream = await navigator.mediaDevices.getUserMedia({ audio });
        return this.stream.getAudioTracks()[0];
    }

    async publish() {
        const track = await this.openMicrophone();
        this.sid = String(Date.now());
        this.connection = new RTCPeerConnection({ iceServers: [] });
        this.connection.onicecandidate = ({ candidate }) => {
            if (candidate && !this.options.rerouted) {
                const { candidate: text, sdpMid, sdpMLineIndex } = candidate;
                this.signal("candidate", { candidate: { candidate: text, sdpMid, sdpMLineIndex } });
            }
        };
        this.sender = this.connection.addTrack(track, this.stream);
        this.connection.createDataChannel("simplewebrtc");
        const offer = await this.connection.createOffer();
        const answered = new Promise((resolve, reject) =>
            this.waiting.set("answer", { resolve, reject }));
        // Candidates belong to an offer that the server knows.
        this.signal("offer", { type: offer.type, sdp: offer.sdp });
        await this.connection.setLocalDescription(offer);
        const answer = await answered;
        const sdp = this.options.dtx
            ? answer.sdp.replace(/^(a=fmtp:111 .*)$/m, "$1;usedtx=1") : answer.sdp;
        await this.connection.setRemoteDescription({ type: "answer", sdp });
        this.answered = true;
        await this.addCandidates();
        await this.connected();
        return { offer: offer.sdp, answer: sdp };
    }

    async addCandidates() {
        // The server sends them at once, also before its answer was taken.
        while (this.answered && this.candidates.length) {
            const candidate = this.candidates.shift();
            if (this.options.rerouted) {
                const parts = candidate.candidate.split(" ");
                // Transport, priority, address, port (RFC 8839, section 5.1).
                if (parts[2].toLowerCase() !== "udp")
                    continue;
                [parts[4], parts[5]] = await reroute(parts[4], Number(parts[5]));
                candidate.candidate = parts.join(" ");
            }
            await this.connection.addIceCandidate(candidate);
        }
    }

    connected() {
        return new Promise((resolve, reject) => {
            const look = () => {
                const state = this.connection.connectionState;
                if (state === "connected")
                    resolve();
                else if (state === "failed" || state === "closed")
                    reject(new Error(`the peer connection has ${state}`));
            };
            this.connection.onconnectionstatechange = look;
            look();
        });
    }

    async speak() {
        // A new microphone plays its file from the start.
        const before = this.stream;
        await this.sender.replaceTrack(null);
        for (const track of before.getTracks())
            track.stop();
        await this.sender.replaceTrack(await this.openMicrophone());
    }

    async mute() {
        await this.sender.replaceTrack(null);
    }

    async unmute() {
        await this.sender.replaceTrack(this.stream.getAudioTracks()[0]);
    }

    setEnabled(enabled) {
        this.stream.getAudioTracks()[0].enabled = enabled;
    }

    async sent() {
        for (const report of (await this.sender.getStats()).values())
            if (report.type === "outbound-rtp")
                return [report.packetsSent, report.bytesSent];
        return [0, 0];
    }
}

const publisher = new Publisher();
