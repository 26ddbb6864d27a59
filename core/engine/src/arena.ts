/**
 * The one buffer that holds every context block and all guest memory, with one view per element width.
 * The views are replaced when the buffer is: read `arena.u8` each time, never keep it across a call that can grow memory.
 */
export class Arena {
  u8!: Uint8Array;
  u16!: Uint16Array;
  u32!: Uint32Array;
  i32!: Int32Array;
  u64!: BigUint64Array;
  f64!: Float64Array;
  view!: DataView;

  /** @param buffer - owned by the caller: a `WebAssembly.Memory` buffer or a plain one, length a multiple of 8. */
  constructor(buffer: ArrayBuffer | SharedArrayBuffer) {
    this.adopt(buffer);
  }

  /** Replaces all views, after the owner grew or moved the buffer. */
  adopt(buffer: ArrayBuffer | SharedArrayBuffer): void {
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.view = new DataView(buffer);
  }

  get byteLength(): number {
    return this.u8.byteLength;
  }
}
