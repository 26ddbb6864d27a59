import { ALL_PLANES } from './permissions.ts';

/** On whose behalf memory is accessed. */
export const SubjectKind = {
  /** An instruction of the plane: data or fetch. */
  Cpu: 0,
  /** A page walk for the plane, reading and updating tables. */
  Walk: 1,
  /** A hypercall that the plane made. */
  Call: 2,
  /** A device that acts with the rights of the plane. */
  Device: 3,
  /** The VMM or the owner of a page: no rights asked, no watch asked. */
  Host: 4,
} as const;
export type SubjectKind = (typeof SubjectKind)[keyof typeof SubjectKind];

/** Which backing of a page an access means. */
export const Side = {
  /** The one the page's attribute names. */
  Current: 0,
  /** The private one; a page that is shared now is a mismatch. */
  Private: 1,
  /** The shared one; a page that is private now is a mismatch. */
  Shared: 2,
  /** The private one of a page whose sides can both be reached at any time, whatever its attribute. */
  OpenPrivate: 3,
  /** The shared one of such a page. */
  OpenShared: 4,
} as const;
export type Side = (typeof Side)[keyof typeof Side];

/** Who accesses memory, and how it sees the page space. Made once, passed by reference. */
export interface Subject {
  readonly kind: SubjectKind;
  /** Whose permissions and overlays count; {@link ALL_PLANES} for the host without a plane. */
  readonly plane: number;
  readonly side: Side;
  /** Whether overlays of the plane hide the pages under them. */
  readonly seesOverlays: boolean;
}

/**
 * Makes a subject. Keep it: accesses compare and read it, nothing copies it.
 * @param plane - 0..15; {@link ALL_PLANES} only for the host.
 * @param side - default {@link Side.Current}.
 * @param seesOverlays - default: true except for devices, whose accesses pass below overlays.
 */
export const subject = (kind: SubjectKind, plane: number, side: Side = Side.Current, seesOverlays: boolean = kind !== SubjectKind.Device): Subject =>
  Object.freeze({ kind, plane, side, seesOverlays: seesOverlays && plane !== ALL_PLANES });

/** The usual subjects of one plane. */
export interface PlaneSubjects {
  readonly cpu: Subject;
  readonly walk: Subject;
  readonly call: Subject;
  readonly device: Subject;
  /** The VMM or an owner writing what the plane will see, its overlays included, without asking its rights. */
  readonly host: Subject;
}

export const planeSubjects = (plane: number): PlaneSubjects =>
  Object.freeze({
    cpu: subject(SubjectKind.Cpu, plane),
    walk: subject(SubjectKind.Walk, plane),
    call: subject(SubjectKind.Call, plane),
    device: subject(SubjectKind.Device, plane),
    host: subject(SubjectKind.Host, plane),
  });

/** The VMM looking at guest memory below all overlays. */
export const HOST: Subject = subject(SubjectKind.Host, ALL_PLANES);
