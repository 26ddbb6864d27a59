export { Arena } from './arena.ts';
export { ContextLayout, type RegisterDef, Sharing, type SharingDeclaration } from './context-layout.ts';
export { HostError, HostErrorCode } from './errors.ts';
export { type Brand, Gpa, Gpn, MAX_PLANES, MAX_VPS, maskOf, PAGE_SHIFT, PAGE_SIZE, PlaneId, type PlaneMask, VpIndex } from './ids.ts';
